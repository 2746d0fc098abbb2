package datapath

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/plainsr"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// plain makes an SR with one volume; it answers where this host notes what the volume has.
func plain(t *testing.T) (handle, path, uri, note string) {
	t.Helper()
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inf := `{"format":1,"name":"n","size":4096,"read_write":true,"sector_size":512,"origin":null}`
	if err := errors.Join(os.WriteFile(filepath.Join(path, sr.Record(aKey)), []byte(inf), 0o600), os.WriteFile(filepath.Join(path, sr.Data(aKey)), make([]byte, 4096), 0o600)); err != nil {
		t.Fatal(err)
	}
	return handle, path, volume.URIAt(path, plainsr.UUID, aKey), filepath.Join(rundir.Path, rundir.Volumes, lease.NoteName(plainsr.UUID, aKey)+".json")
}

func keep(t *testing.T, path string, n lease.Note) {
	t.Helper()
	data, err := json.Marshal(n)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func noted(t *testing.T, path string) (n lease.Note) {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return n
	}
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Who has nothing gives back nothing, as often as asked, and leaves nothing.
func TestGivingBackNothing(t *testing.T) {
	_, _, uri, note := plain(t)
	for range 2 {
		for what, err := range map[string]error{
			"open": Open(uri, true), "deactivate": Deactivate(uri, "1"), "detach": Detach(uri, "1"), "close": Close(uri),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	left, err := os.ReadDir(filepath.Dir(note))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What cannot be had is refused by its class, and nothing is noted of it.
func TestRefusals(t *testing.T) {
	_, path, uri, note := plain(t)
	none := strings.Replace(uri, string(aKey), string(otherKey), 1)
	attach := func(uri, domain string) error { _, err := Attach(uri, domain); return err }
	for what, c := range map[string]struct{ err, want error }{
		"no domain":                 {attach(uri, ""), fault.ErrInvalid},
		"a domain without end":      {attach(uri, strings.Repeat("x", 5000)), fault.ErrInvalid},
		"no volume":                 {attach(none, "1"), fault.ErrVolumeNotFound},
		"no URI":                    {attach("x", "1"), fault.ErrVolumeNotFound},
		"opened, and no volume":     {Open(none, true), fault.ErrVolumeNotFound},
		"active before attached":    {Activate(uri, "1", false), fault.ErrInvalid},
		"active of nobody":          {Activate(uri, "", false), fault.ErrInvalid},
		"active, and no volume":     {Activate(none, "1", false), fault.ErrVolumeNotFound},
		"of an SR that is not here": {attach(strings.Replace(uri, "/sr/", "/rs/", 1), "1"), fault.ErrNotAttached},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	for text, want := range map[string]error{`{"format":99}`: fault.ErrNewer, `{"format":1,"data_destroyed":true}`: fault.ErrNoData, "x": fault.ErrDamaged} {
		if err := os.WriteFile(filepath.Join(path, sr.Record(aKey)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := attach(uri, "1"); !errors.Is(err, want) {
			t.Errorf("%s: attached: %v", text, err)
		}
		if err := Open(uri, true); !errors.Is(err, want) {
			t.Errorf("%s: opened: %v", text, err)
		}
	}
	if n := noted(t, note); !n.Empty() {
		t.Errorf("noted: %+v", n)
	}
}

// A domain that is noted to have the volume keeps others from opening it otherwise.
func TestOpenOfWhatIsAttached(t *testing.T) {
	_, _, uri, note := plain(t)
	for _, nonpersistent := range []bool{true, false} {
		keep(t, note, lease.Note{Domains: []string{"5"}, Nonpersistent: nonpersistent, Dev: 1, Ino: 1})
		if err := Open(uri, !nonpersistent); err != nil {
			t.Errorf("as it is: %v", err)
		}
		if err := Open(uri, nonpersistent); !errors.Is(err, fault.ErrInUse) || !strings.Contains(err.Error(), "domain 5") {
			t.Errorf("otherwise: %v", err)
		}
		err := Close(uri)
		if nonpersistent && !errors.Is(err, fault.ErrInUse) || !nonpersistent && err != nil {
			t.Errorf("closed: %v", err)
		}
		if n := noted(t, note); len(n.Domains) != 1 || n.Nonpersistent != nonpersistent {
			t.Errorf("noted: %+v", n)
		}
	}
}

// Detach succeeds whatever the state of things: the domain goes from the note and from the lease, others stay.
func TestDetachOfALostDevice(t *testing.T) {
	handle, _, uri, note := plain(t)
	me, err := hostinfo.ThisHost()
	if err != nil {
		t.Fatal(err)
	}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	there := lease.Holder{Host: "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f", Boot: "x", Domain: "9"}
	active := []lease.Holder{lease.NewHolder(s, me, "1", false), lease.NewHolder(s, me, "2", false)}
	if err := lease.WriteFile(s, aKey, append([]lease.Holder{there}, active...)); err != nil {
		t.Fatal(err)
	}
	keep(t, note, lease.Note{Domains: []string{"1", "2"}, Active: active, Dev: 1, Ino: 1})
	if err := Activate(uri, "1", true); err == nil || !strings.Contains(err.Error(), "lost its device") {
		t.Errorf("active without a device: %v", err)
	}
	for _, c := range []struct {
		domain     string
		noted      int
		leaseOwner []string
	}{{"1", 1, []string{"9", "2"}}, {"1", 1, []string{"9", "2"}}, {"2", 0, []string{"9"}}} {
		if err := Detach(uri, c.domain); err != nil {
			t.Errorf("%s: %v", c.domain, err)
		}
		l, err := lease.ReadFile(s, aKey)
		if n := noted(t, note); err != nil || len(n.Domains) != c.noted || len(l.Holders) != len(c.leaseOwner) {
			t.Errorf("%s: noted %+v, lease %+v, %v", c.domain, n, l, err)
			continue
		}
		for i, h := range l.Holders {
			if h.Domain != c.leaseOwner[i] {
				t.Errorf("%s: lease %+v", c.domain, l)
			}
		}
	}
}

// A note that nobody can read is no licence: only detach goes on, from every domain.
func TestNoteThatCannotBeRead(t *testing.T) {
	_, _, uri, note := plain(t)
	attach := func() error { _, err := Attach(uri, "1"); return err }
	keep(t, note, lease.Note{})
	if err := os.WriteFile(note, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"open": Open(uri, true), "attach": attach(), "activate": Activate(uri, "1", true), "close": Close(uri)} {
		if err == nil || !strings.Contains(err.Error(), note) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(Deactivate(uri, "1"), Detach(uri, "1")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(note); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after detach: %v", err)
	}
	if err := Open(uri, true); err != nil {
		t.Error(err)
	}
}

// Recovery takes what a crash left, and nothing that is waiting; detaching the SR takes that as well.
func TestRecoverAndDetachSR(t *testing.T) {
	handle, path, uri, note := plain(t)
	me, err := hostinfo.ThisHost()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(path, sr.StagedPath(lease.NonpersistentName(aKey, me)))
	put := func() {
		t.Helper()
		if err := os.WriteFile(disk, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there := func() bool { _, err := os.Stat(disk); return err == nil }
	put()
	if err := Recover(handle); err != nil || there() {
		t.Errorf("a nonpersistent disk that nobody notes is there: %v, %v", there(), err)
	}
	put()
	keep(t, note, lease.Note{Nonpersistent: true, Host: me.UUID})
	if err := Recover(handle); err != nil || !there() {
		t.Errorf("one that waits to be attached is there: %v, %v", there(), err)
	}
	keep(t, note, lease.Note{Nonpersistent: true, Host: me.UUID, Used: true})
	if err := Recover(handle); err != nil || there() || !noted(t, note).Nonpersistent {
		t.Errorf("one that was used is there: %v, %+v, %v", there(), noted(t, note), err)
	}
	// A note of a volume that is no more.
	gone := strings.Replace(note, string(aKey), string(otherKey), 1)
	keep(t, gone, lease.Note{Domains: []string{"1"}})
	if err := Recover(handle); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a note of no volume: %v", err)
	}
	// A lease of this boot that nobody has.
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		t.Fatal(err)
	}
	err = lease.WriteFile(s, aKey, []lease.Holder{lease.NewHolder(s, me, "1", true)})
	if err == nil {
		err = Recover(handle)
	}
	if l, e := lease.ReadFile(s, aKey); err != nil || e != nil || len(l.Holders) > 0 {
		t.Errorf("a lease of nobody: %+v, %v, %v", l, err, e)
	}
	s.Close()
	put()
	keep(t, note, lease.Note{Nonpersistent: true, Host: me.UUID})
	if err := DetachSR(handle); err != nil || there() {
		t.Errorf("detached: %v", err)
	}
	if _, err := os.Stat(note); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("detached, and noted: %v", err)
	}
	if err := Open(uri, true); !errors.Is(err, fault.ErrNotAttached) {
		t.Errorf("detached, and opened: %v", err)
	}
	if err := DetachSR(handle); err != nil {
		t.Errorf("again: %v", err)
	}
}

// An attach that fails leaves the volume as it was: nobody has it.
func TestAttachThatFails(t *testing.T) {
	handle, path, uri, note := plain(t)
	if err := os.Remove(filepath.Join(path, sr.Data(aKey))); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(uri, "1"); !errors.Is(err, fault.ErrDamaged) {
		t.Errorf("without data: %v", err)
	}
	keep(t, note, lease.Note{Nonpersistent: true})
	if _, err := Attach(uri, "1"); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("without its nonpersistent disk: %v", err)
	}
	if n := noted(t, note); len(n.Domains) > 0 || !n.Nonpersistent {
		t.Errorf("noted: %+v", n)
	}
	if err := Close(uri); err != nil {
		t.Error(err)
	}
	if err := DetachSR(handle); err != nil {
		t.Error(err)
	}
}
