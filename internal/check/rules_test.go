package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/internal/plainsr"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

const (
	aKey     = "365c68ee-966a-4644-880d-1122a36ab9a1"
	otherKey = "465c68ee-966a-4644-880d-1122a36ab9a1"
	noKey    = "00000000-0000-4000-8000-000000000000"
	host     = "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f"
	record   = `{"format":1,"name":"n","size":4096,"read_write":true,"created":"2026-01-01T00:00:00Z","sector_size":512,"origin":null}`
)

// Each rule finds what it is for, says whether it is wrong or only worth knowing, and whether a repair does something.
func TestRules(t *testing.T) {
	const staging, leases, locks, cbt = ".reflinksr/staging/", ".reflinksr/leases/", ".reflinksr/locks/", ".reflinksr/cbt/"
	me, err := hostinfo.ThisHost()
	if err != nil {
		t.Fatal(err)
	}
	holder := func(h lease.Holder) string {
		data, _ := json.Marshal(lease.Lease{Format: 1, Holders: []lease.Holder{h}})
		return string(data)
	}
	note := func(n lease.Note) string { data, _ := json.Marshal(n); return string(data) }
	const noteFile = "../run/volume/" + plainsr.UUID + "." + aKey + ".json"
	for _, c := range []struct {
		why   string
		files map[string]string // below the SR's directory; data of a volume is made for each record
		want  []string          // kind name [note] [repair]
	}{
		{"an empty SR", nil, nil},
		{"a volume", map[string]string{aKey + ".inf": record}, nil},
		{"somebody's files", map[string]string{"README": "x"}, nil},
		{"a strange file", map[string]string{staging + "x": "", ".reflinksr/y": "", leases + "z": ""}, []string{
			"unknown .reflinksr/leases/z note", "unknown .reflinksr/staging/x note", "unknown .reflinksr/y note"}},
		{"a record that is none", map[string]string{aKey + ".inf": "rubbish"}, []string{"damage " + aKey + ".inf"}},
		{"a record of a newer version", map[string]string{aKey + ".inf": `{"format":99,"size":4096}`}, []string{"newer " + aKey + ".inf note"}},
		{"no data", map[string]string{aKey + ".inf": record, aKey: "-"}, []string{"damage " + aKey}},
		{"no record", map[string]string{aKey: "x"}, []string{"orphan " + aKey}},
		{"data that is too short", map[string]string{aKey + ".inf": strings.Replace(record, "4096", "8192", 1)}, []string{"size " + aKey}},
		{"data that is longer", map[string]string{aKey + ".inf": strings.Replace(record, "4096", "100", 1)}, []string{"size " + aKey + ".inf note repair"}},
		{"data of an odd length", map[string]string{aKey + ".inf": strings.Replace(record, "4096", "1", 1), aKey: "x"}, []string{"size " + aKey}},
		{"adopted data of an odd length", map[string]string{aKey + ".inf": `{"name":"n","size":1}`, aKey: "x"}, []string{"size " + aKey + " note"}},
		{"an interrupted creation", map[string]string{staging + aKey: "x", staging + aKey + ".inf": record}, []string{
			"unfinished " + staging + aKey + " repair", "unfinished " + staging + aKey + ".inf repair"}},
		{"an interrupted conversion", map[string]string{staging + aKey + ".base": "x", staging + aKey + ".base.new": "x"}, []string{
			"unfinished " + staging + aKey + ".base note", "unfinished " + staging + aKey + ".base.new repair"}},
		{"an interrupted change", map[string]string{aKey + ".inf": record, staging + aKey + ".inf.new": ""}, []string{"unfinished " + staging + aKey + ".inf.new repair"}},
		{"an interrupted destruction", map[string]string{aKey: "x", staging + aKey + ".inf": record}, []string{"unfinished " + staging + aKey + ".inf repair"}},
		{"an interrupted SR.set_name", map[string]string{staging + "sr.json.new": "{}"}, []string{"unfinished " + staging + "sr.json.new repair"}},
		{"a lock of no volume", map[string]string{locks + aKey: ""}, []string{"lock " + locks + aKey + " note repair"}},
		{"a lock of a volume", map[string]string{aKey + ".inf": record, locks + aKey: ""}, nil},
		{"a lease of no volume", map[string]string{leases + aKey: holder(lease.Holder{Host: host, Boot: "x", Domain: "1"})}, []string{"lease " + leases + aKey + " repair"}},
		{"a lease of data without a record", map[string]string{aKey: "x", leases + aKey: holder(lease.Holder{Host: host, Boot: "x", Domain: "1"})}, []string{
			"lease " + leases + aKey, "orphan " + aKey}},
		{"a lease that is none", map[string]string{aKey + ".inf": record, leases + aKey: "rubbish"}, []string{"damage " + leases + aKey}},
		{"a lease of a newer version", map[string]string{aKey + ".inf": record, leases + aKey: `{"format":99}`}, []string{"newer " + leases + aKey}},
		{"a lease of this boot that nobody has", map[string]string{aKey + ".inf": record, leases + aKey: holder(lease.Holder{Host: me.UUID, Boot: me.Boot, Domain: "1"})}, []string{"lease " + leases + aKey + " repair"}},
		{"a lease of a domain that has it", map[string]string{aKey + ".inf": record, leases + aKey: holder(lease.Holder{Host: me.UUID, Boot: me.Boot, Domain: "1"}),
			noteFile: note(lease.Note{Domains: []string{"1"}, Active: []lease.Holder{{Host: me.UUID, Boot: me.Boot, Domain: "1"}}})}, nil},
		{"a note of a host that was called otherwise", map[string]string{aKey + ".inf": record,
			noteFile: note(lease.Note{Domains: []string{"1"}, Active: []lease.Holder{{Host: host, Boot: me.Boot, Domain: "1"}}})}, []string{"identity " + noteFile + " note"}},
		{"a note of no volume", map[string]string{noteFile: note(lease.Note{Domains: []string{"1"}})}, []string{"runtime " + noteFile + " repair"}},
		{"a note that is none", map[string]string{aKey + ".inf": record, noteFile: "rubbish"}, []string{"runtime " + noteFile}},
		{"a nonpersistent disk that nobody has", map[string]string{aKey + ".inf": record, staging + aKey + "." + me.UUID + ".throwaway": "x"}, []string{
			"throwaway " + staging + aKey + "." + me.UUID + ".throwaway repair"}},
		{"one that has served its guest", map[string]string{aKey + ".inf": record, staging + aKey + "." + me.UUID + ".throwaway": "x", noteFile: note(lease.Note{Nonpersistent: true, Used: true})}, []string{
			"throwaway " + staging + aKey + "." + me.UUID + ".throwaway note repair"}},
		{"one that waits to be attached", map[string]string{aKey + ".inf": record, staging + aKey + "." + me.UUID + ".throwaway": "x", noteFile: note(lease.Note{Nonpersistent: true})}, nil},
		{"a snapshot of what is no more", map[string]string{aKey + ".inf": strings.Replace(record, `"origin":null`, `"origin":{"kind":"snapshot","of":"`+noKey+`"}`, 1)}, []string{"lineage " + aKey + ".inf note"}},
		{"an origin that is no key", map[string]string{aKey + ".inf": strings.Replace(record, `"origin":null`, `"origin":{"kind":"clone","of":"../x"}`, 1)}, []string{"lineage " + aKey + ".inf"}},
		{"an origin of no kind", map[string]string{aKey + ".inf": strings.Replace(record, `"origin":null`, `"origin":{"kind":"x","of":"`+noKey+`"}`, 1)}, []string{"lineage " + aKey + ".inf"}},
		{"its own origin", map[string]string{aKey + ".inf": strings.Replace(record, `"origin":null`, `"origin":{"kind":"clone","of":"`+aKey+`"}`, 1)}, []string{"lineage " + aKey + ".inf"}},
		{"other sectors than its origin's", map[string]string{otherKey + ".inf": record,
			aKey + ".inf": strings.NewReplacer(`"origin":null`, `"origin":{"kind":"clone","of":"`+otherKey+`"}`, "512", "4096").Replace(record)}, []string{"sector " + aKey + ".inf note"}},
		{"a part of the control directory is missing", map[string]string{cbt: "-"}, []string{"control .reflinksr/cbt repair"}},
		{"a file in its place", map[string]string{cbt: "-", ".reflinksr/cbt": "x"}, []string{"damage .reflinksr/cbt"}},
		{"a marker that is none", map[string]string{"sr.json": "rubbish", leases + aKey: "rubbish"}, []string{"damage sr.json"}},
		{"a destroyed SR", map[string]string{"sr.json": "-", "sr.json.destroyed": `{"format":1,"uuid":"` + plainsr.UUID + `"}`}, []string{"unfinished sr.json.destroyed repair"}},
	} {
		_, path, err := plainsr.Make(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for name := range c.files {
			if key, is := strings.CutSuffix(name, ".inf"); is && len(key) == 36 {
				put(t, filepath.Join(path, key), strings.Repeat("x", 4096))
			}
		}
		for _, name := range slices.Backward(slices.Sorted(maps.Keys(c.files))) { // a directory goes before what comes in its place
			put(t, filepath.Join(path, name), c.files[name])
		}
		got := found(t, path)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}

// put makes a file, or removes what there is for "-".
func put(t *testing.T, path, text string) {
	t.Helper()
	if text == "-" {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// found is what is found in the SR there, but not that its files are not root's, nor that this machine has no identity or
// that its filesystem has no attributes for files.
func found(t *testing.T, path string) (lines []string) {
	t.Helper()
	s, err := sr.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := ExamineVolumes(t.Context(), s, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(r.Problems, r.Notes...) {
		if p.Kind == WrongMode && os.Getuid() != 0 || p.Kind == NoIdentity && p.Key == "" {
			continue
		}
		if p.Text == "" || p.Repair == "" || p.Repairable == strings.HasPrefix(p.Repair, "nothing: ") {
			t.Errorf("%+v", p)
		}
		name := p.Name
		if rest, is := strings.CutPrefix(name, rundir.Path); is {
			name = "../run" + rest
		}
		line := fmt.Sprintf("%s %s", p.Kind, name)
		if p.Note {
			line += " note"
		}
		if p.Repairable {
			line += " repair"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// On another filesystem than it was made on an SR is not what its marker says, and what is noted is another's.
func TestWrongPlace(t *testing.T) {
	_, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(path, "sr.json")
	data, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	put(t, marker, strings.Replace(string(data), `"type": "`, `"type": "other`, 1))
	put(t, filepath.Join(path, ".reflinksr/leases", aKey), "rubbish")
	if got := found(t, path); !slices.Equal(got, []string{"filesystem sr.json"}) {
		t.Errorf("%q", got)
	}
	// A copy of an SR that is attached.
	put(t, marker, string(data))
	copied := path + ".copy"
	if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sr.json", ".reflinksr/lock", ".reflinksr/leases.lock", ".reflinksr/cbt.lock", ".reflinksr/leases/" + aKey, ".reflinksr", ".reflinksr/staging", ".reflinksr/locks", ".reflinksr/leases", ".reflinksr/cbt"} {
		st, err := os.Stat(filepath.Join(path, name))
		if err == nil {
			err = os.Chmod(filepath.Join(copied, name), st.Mode())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := found(t, copied); !slices.Equal(got, []string{"filesystem sr.json"}) {
		t.Errorf("a copy: %q", got)
	}
}

// What is missing a call may be about to make: while it is at it, it is no problem.
func TestBusyVolumeIsANote(t *testing.T) {
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(path, ".reflinksr/staging", aKey), "x")
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lock, err := s.LockNew(aKey)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if got, want := found(t, path), []string{"unfinished .reflinksr/staging/" + aKey + " note"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLeftDisk(t *testing.T) {
	for _, c := range []struct {
		why                string
		own, local         bool
		note               lease.Note
		wrong, known, gone bool // it is told of; only worth knowing; a repair removes it
	}{
		{"another host's", false, false, lease.Note{}, true, true, false},
		{"another host's, where only this one can be", false, true, lease.Note{}, true, false, true},
		{"nobody's", true, false, lease.Note{}, true, false, true},
		{"a guest's", true, true, lease.Note{Nonpersistent: true, Used: true, Domains: []string{"1"}}, false, false, false},
		{"one that waits", true, true, lease.Note{Nonpersistent: true}, false, false, false},
		{"one that was used", true, true, lease.Note{Nonpersistent: true, Used: true}, true, true, true},
	} {
		p, wrong := leftDisk("h", c.own, c.local, c.note)
		if wrong != c.wrong || wrong && (p.Note != c.known || p.Repairable != c.gone) {
			t.Errorf("%s: %v, %+v", c.why, wrong, p)
		}
	}
}

func TestStaleHolders(t *testing.T) {
	h := lease.Holder{Host: host, Boot: "b", Domain: "1", Write: true}
	const here = lease.Over - 1
	for _, c := range []struct {
		why   string
		note  lease.Note
		claim lease.Claim
		local bool
		says  string // "": it is a holder
	}{
		{"another host's", lease.Note{}, lease.Elsewhere, false, ""},
		{"another host's, where only this one can be", lease.Note{}, lease.Elsewhere, true, "another identity"},
		{"a former boot's", lease.Note{}, lease.Over, false, "former boot"},
		{"a domain's", lease.Note{Active: []lease.Holder{h}}, here, true, ""},
		{"a domain's that only reads", lease.Note{Active: []lease.Holder{{Domain: "1"}}}, here, true, "nobody has here"},
		{"nobody's", lease.Note{}, here, true, "nobody has here"},
	} {
		if got := stale(h, c.note, c.claim, c.local); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", c.why, got)
		}
	}
}

func TestLeakedDevices(t *testing.T) {
	for _, c := range []struct {
		why        string
		note       lease.Note
		repairable []bool
	}{
		{"a domain's", lease.Note{Domains: []string{"1"}}, nil},
		{"nobody's", lease.Note{}, []bool{false, false}},
		{"one that was stuck", lease.Note{Stuck: true}, []bool{true, true}},
	} {
		f := finding{note: c.note, devices: []loop.Device{{Number: 1}, {Number: 2}}}
		if err := new(examination).leakedDevices(aKey, &f); err != nil {
			t.Fatal(err)
		}
		var got []bool
		for _, p := range f.problems {
			got = append(got, p.Repairable)
		}
		if !slices.Equal(got, c.repairable) {
			t.Errorf("%s: %+v", c.why, f.problems)
		}
	}
}

// Every kind of file in staging, and whether its volume is there: what it is, and that recovery ends it.
func TestInterrupted(t *testing.T) {
	seen := map[string]string{}
	for _, kind := range []string{"", ".inf", ".inf.new", ".new", ".revert", ".composed", sr.PendingCBT + ".new", ".x" + sr.NonpersistentSuffix} {
		for n := range 8 {
			committed, data, staged := n&1 != 0, n&2 != 0, map[string]bool{kind: true, "": kind == "" || n&4 != 0}
			text, repair := interrupted(kind, committed, data, staged)
			if text == "" || repair == "" {
				t.Errorf("%q: %q, %q", kind, text, repair)
			}
			if before, told := seen[text]; told && before != kind {
				t.Errorf("%q and %q are the same: %q", before, kind, text)
			}
			seen[text] = kind
			if strings.Contains(repair, "data") && (committed || !data) {
				t.Errorf("%q: %q removes data of a volume, or that is not there", kind, repair)
			}
			if repair == "puts it in its place" && (kind != "" || !committed || data) {
				t.Errorf("%q is put where data is", kind)
			}
		}
	}
}

func TestExposure(t *testing.T) {
	for _, c := range []struct {
		mode, uid uint32
		says      string
	}{
		{unix.S_IFREG | 0o600, 0, ""}, {unix.S_IFDIR | 0o700, 0, ""}, {unix.S_IFREG | 0o644, 0, "should be 0600"},
		{unix.S_IFDIR | 0o755, 0, "should be 0700"}, {unix.S_IFREG | 0o600, 7, "owner 7"}, {unix.S_IFREG | 0o400, 0, "mode is 0400"},
	} {
		if got := exposureOf(&unix.Stat_t{Mode: c.mode, Uid: c.uid}); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%o of %d: %q", c.mode, c.uid, got)
		}
	}
}

func TestFormerName(t *testing.T) {
	me := hostinfo.Host{UUID: "me", Boot: "now"}
	for _, c := range []struct {
		note lease.Note
		want string
	}{
		{lease.Note{}, ""},
		{lease.Note{Active: []lease.Holder{{Host: "me", Boot: "now"}}, Nonpersistent: true, Host: "me"}, ""},
		{lease.Note{Active: []lease.Holder{{Host: "was", Boot: "now"}}}, "was"},
		{lease.Note{Active: []lease.Holder{{Host: "other", Boot: "then"}}}, ""},
		{lease.Note{Nonpersistent: true, Host: "was"}, "was"},
		{lease.Note{Host: "was"}, ""},
	} {
		if got := formerName(c.note, me); got != c.want {
			t.Errorf("%+v: %q", c.note, got)
		}
	}
}

// Blocks that have checksums and blocks that have none are never shared, and who looked at neither says nothing.
func TestAttributesOfRelatives(t *testing.T) {
	of := &volume.Origin{Kind: volume.Clone, Of: otherKey}
	for n := range 16 {
		a := finding{there: true, record: &volume.Record{Origin: of}, bare: n&1 != 0, looked: n&2 != 0}
		b := finding{there: true, record: &volume.Record{}, bare: n&4 != 0, looked: n&8 != 0}
		problems := lineage(nil, []sr.Key{aKey, otherKey}, []finding{a, b})
		if want := a.bare != b.bare && a.looked && b.looked; (len(problems) == 1) != want || len(problems) > 1 {
			t.Errorf("%+v, %+v: %+v", a, b, problems)
		}
	}
}
