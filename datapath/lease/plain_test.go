package lease

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/plainsr"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
)

const aKey = sr.Key("365c68ee-966a-4644-880d-1122a36ab9a1")

// plain opens an SR with one volume, as if its filesystem were of that kind.
func plain(t *testing.T, kind string) (s *sr.SR, me hostinfo.Host) {
	t.Helper()
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sr.Data(aKey), sr.Record(aKey)} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = sr.Open(handle, dirfs.Shared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	meta := *s.Meta
	meta.Filesystem = filesystem.Identity{Type: kind}
	s.Meta = &meta
	if me, err = hostinfo.ThisHost(); err != nil {
		t.Fatal(err)
	}
	return s, me
}

// keep notes what this host has of the volume.
func keep(t *testing.T, n Note) {
	t.Helper()
	dir, err := rundir.Open(rundir.Volumes)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	data, err := json.Marshal(n)
	if err == nil {
		err = dir.Republish(NoteName(plainsr.UUID, aKey)+".json", data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func domains(holders []Holder) (names []string) {
	for _, h := range holders {
		names = append(names, h.Domain)
	}
	return names
}

// Who has a volume: other hosts by its lease, this one by its note, and nobody of a boot that is over.
func TestWhoHasAVolume(t *testing.T) {
	hardware := hostinfo.ThisHardware()
	for _, c := range []struct {
		why, kind string
		holders   func(me hostinfo.Host) []Holder
		read      []string // domains, when this host notes domain "own"
		published []string // in the file, after this host has published that
		swept     []string // after SR.attach, the first in this boot
		strangers []string
	}{
		{"nobody", "xfs", func(hostinfo.Host) []Holder { return nil }, []string{"own"}, []string{"own"}, []string{"own"}, nil},
		{"another host", "xfs", func(hostinfo.Host) []Holder { return []Holder{{Host: "o", Boot: "x", Domain: "1"}} },
			[]string{"1", "own"}, []string{"1", "own"}, []string{"own"}, []string{"1"}},
		{"another host that shares it", "nfs", func(hostinfo.Host) []Holder { return []Holder{{Host: "o", Boot: "x", Domain: "1"}} },
			[]string{"1", "own"}, []string{"1", "own"}, []string{"1", "own"}, nil},
		{"a former boot", "xfs", func(me hostinfo.Host) []Holder { return []Holder{{Host: me.UUID, Boot: "x", Domain: "1"}} },
			[]string{"own"}, []string{"own"}, []string{"own"}, []string{"1"}},
		{"a former boot of the same hardware", "nfs", func(me hostinfo.Host) []Holder {
			return []Holder{{Host: me.UUID, Boot: "x", Domain: "1", Hardware: &hardware}}
		}, nil, nil, nil, nil}, // what it comes to depends on whether this machine tells who it is
		{"this boot, which the note does not know of any more", "xfs", func(me hostinfo.Host) []Holder {
			return []Holder{{Host: me.UUID, Boot: me.Boot, Domain: "1"}}
		}, []string{"own"}, []string{"own"}, []string{"own"}, nil},
	} {
		s, me := plain(t, c.kind)
		if c.read == nil {
			known, _ := hardware.Same(hardware)
			c.read = []string{"1", "own"}
			if known {
				c.read = []string{"own"}
			}
			c.published, c.swept = c.read, c.read
		}
		before := c.holders(me)
		if err := WriteFile(s, aKey, before); err != nil {
			t.Fatal(err)
		}
		if strangers, err := Strangers(s, aKey, me); err != nil || !slices.Equal(domains(strangers), c.strangers) {
			t.Errorf("%s: strangers %q, %v", c.why, domains(strangers), err)
		}
		own := NewHolder(s, me, "own", true)
		if (own.Hardware != nil) != s.Meta.Filesystem.Clustered() {
			t.Errorf("%s: %+v", c.why, own)
		}
		keep(t, Note{Domains: []string{"own"}, Active: []Holder{own}})
		if l, err := Read(s, aKey, me); err != nil || !slices.Equal(domains(l.Holders), c.read) {
			t.Errorf("%s: read %q, %v, want %q", c.why, domains(l.Holders), err, c.read)
		}
		for what, publish := range map[string]struct {
			do   func(*sr.SR, sr.Key, hostinfo.Host, []Holder) error
			want []string
		}{"published": {Publish, c.published}, "swept": {Sweep, c.swept}} {
			if err := errors.Join(WriteFile(s, aKey, before), publish.do(s, aKey, me, []Holder{own}), publish.do(s, aKey, me, []Holder{own})); err != nil {
				t.Errorf("%s: %v", c.why, err)
			}
			if l, err := ReadFile(s, aKey); err != nil || !slices.Equal(domains(l.Holders), publish.want) {
				t.Errorf("%s: %s %q, %v, want %q", c.why, what, domains(l.Holders), err, publish.want)
			}
		}
		if err := CheckIdle(s, aKey); !errors.Is(err, fault.ErrInUse) {
			t.Errorf("%s: idle: %v", c.why, err)
		}
	}
}

// A lease that nobody can read is nobody's to take, and the last holder takes the file with it.
func TestLeaseFile(t *testing.T) {
	s, me := plain(t, "xfs")
	path := filepath.Join(s.Path, ".reflinksr/leases", string(aKey))
	for text, want := range map[string]error{"": fault.ErrDamaged, "[]": fault.ErrDamaged, `{"format":99,"holders":7}`: fault.ErrNewer} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"publish": Publish(s, aKey, me, nil), "sweep": Sweep(s, aKey, me, nil), "idle": CheckIdle(s, aKey)} {
			if !errors.Is(err, want) {
				t.Errorf("%q: %s: %v", text, what, err)
			}
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%q became %q, %v", text, now, err)
		}
	}
	if err := WriteFile(s, aKey, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Publish(s, aKey, me, []Holder{NewHolder(s, me, "1", false)}), Publish(s, aKey, me, nil)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a lease of nobody: %v", err)
	}
	if err := CheckIdle(s, aKey); err != nil {
		t.Errorf("given back: %v", err)
	}
}

// What a killed call left half written goes with the next that has nothing to write.
func TestHalfALease(t *testing.T) {
	s, me := plain(t, "xfs")
	half := filepath.Join(s.Path, ".reflinksr/staging", string(aKey)+".new")
	if err := os.WriteFile(half, []byte(`{"fo`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Publish(s, aKey, me, nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// What this host notes is read as it was written; one that cannot be read is not an empty one, and where it is in doubt
// the lease says who of this host has the volume.
func TestNotes(t *testing.T) {
	s, me := plain(t, "xfs")
	if n, err := NoteOf(s, aKey); err != nil || !n.Empty() {
		t.Errorf("none: %+v, %v", n, err)
	}
	RemoveNote(plainsr.UUID, aKey)
	own := NewHolder(s, me, "5", true)
	want := Note{Domains: []string{"4", "5"}, Active: []Holder{own}, Nonpersistent: true, Host: "was", Dev: 7, Ino: 8}
	keep(t, want)
	n, err := NoteOf(s, aKey)
	if err != nil || n.Empty() || !n.Attached("4") || n.Attached("6") || n.Bound() || n.NonpersistentName(aKey, me) != string(aKey)+".was.throwaway" {
		t.Errorf("%+v, %v", n, err)
	}
	if h, active := n.Holder("5"); !active || !h.equal(own) {
		t.Errorf("%+v, %v", h, active)
	}
	if _, active := n.Holder("4"); active {
		t.Error("attached is not active")
	}
	if err := WriteFile(s, aKey, []Holder{own, {Host: "o", Boot: "x", Domain: "9"}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(rundir.Path, rundir.Volumes, NoteName(plainsr.UUID, aKey)+".json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Read(s, aKey, me); err != nil || !slices.Equal(domains(l.Holders), []string{"5", "9"}) {
		t.Errorf("in doubt: %q, %v", domains(l.Holders), err)
	}
	if _, err := NoteOf(s, aKey); err == nil {
		t.Error("rubbish is a note")
	}
	RemoveNote(plainsr.UUID, aKey)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed, and there: %v", err)
	}
}

// Two holders are one only if nothing that counts of them differs, and what a lease says of them is one line of words.
func TestHolders(t *testing.T) {
	hardware := hostinfo.Hardware{System: "u", NICs: []string{"m"}}
	h := Holder{Host: "h", Boot: "b", Domain: "d", Hardware: &hardware}
	for why, edit := range map[string]func(*Holder){
		"host":       func(h *Holder) { h.Host = "x" },
		"boot":       func(h *Holder) { h.Boot = "x" },
		"domain":     func(h *Holder) { h.Domain = "x" },
		"mode":       func(h *Holder) { h.Write = true },
		"hardware":   func(h *Holder) { h.Hardware = &hostinfo.Hardware{System: "v", NICs: []string{"m"}} },
		"cards":      func(h *Holder) { h.Hardware = &hostinfo.Hardware{System: "u"} },
		"no machine": func(h *Holder) { h.Hardware = nil },
	} {
		o := h
		edit(&o)
		if h.equal(o) || o.equal(h) || !o.equal(o) {
			t.Errorf("another %s makes no difference", why)
		}
	}
	for text, want := range map[string]string{"5": "5", "u0_x": "u0_x", "a\nb": `"a\nb"`, `"`: `"\""`, strings.Repeat("x", 100): `"` + strings.Repeat("x", 80) + `"`} {
		if got := Plain(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := joinHolders([]Holder{h, {Domain: "e", Write: true}}); !strings.Contains(got, "domain d on host h (read-only") || !strings.Contains(got, ", domain e on host  (read-write") {
		t.Error(got)
	}
}
