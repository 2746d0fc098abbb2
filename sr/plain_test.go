package sr

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/plainsr"
)

const otherKey = "465c68ee-966a-4644-880d-1122a36ab9a1"

func plain(t *testing.T) (handle, path string) {
	t.Helper()
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return handle, path
}

func openPlain(t *testing.T, handle string, mode dirfs.LockMode) *SR {
	t.Helper()
	s, err := Open(handle, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// write makes files below the SR's directory that hold their own names.
func write(t *testing.T, path string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(path, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists the files below the SR's directory that are no part of an empty SR, sorted.
func tree(t *testing.T, path string) (names []string) {
	t.Helper()
	empty := []string{"sr.json", ".reflinksr/lock", ".reflinksr/leases.lock", ".reflinksr/cbt.lock"}
	err := filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(path, p); err == nil && !d.IsDir() && !slices.Contains(empty, rel) {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// Wherever a call was interrupted, recovery leaves the old state or the new one, of this volume alone.
func TestRecoverEveryState(t *testing.T) {
	const (
		staging = ".reflinksr/staging/"
		cbt     = ".reflinksr/cbt/"
		locks   = ".reflinksr/locks/"
		leases  = ".reflinksr/leases/"
	)
	for _, c := range []struct {
		why          string
		before, want []string
	}{
		{"a volume", []string{aKey, aKey + ".inf", locks + aKey, leases + aKey}, []string{leases + aKey, locks + aKey, aKey, aKey + ".inf"}},
		{"a creation before its record", []string{staging + aKey, locks + aKey}, nil},
		{"a creation before its data was in place", []string{staging + aKey, staging + aKey + ".inf"}, nil},
		{"a creation before its commit", []string{aKey, staging + aKey + ".inf", locks + aKey}, nil},
		{"a creation whose data is staged after its commit", []string{staging + aKey, aKey + ".inf"}, []string{locks + aKey, aKey, aKey + ".inf"}},
		{"a destruction after its commit", []string{aKey, staging + aKey + ".inf", leases + aKey, cbt + aKey, cbt + aKey + ".todo", staging + aKey + ".x.throwaway"}, nil},
		{"a destruction whose data is gone", []string{staging + aKey + ".inf", locks + aKey}, nil},
		{"changes before their commit", []string{aKey, aKey + ".inf", staging + aKey + ".inf.new", staging + aKey + ".new", staging + aKey + ".revert", staging + aKey + ".composed", staging + aKey + ".todo.new"}, []string{locks + aKey, aKey, aKey + ".inf"}},
		{"a nonpersistent disk of a volume that is there", []string{aKey, aKey + ".inf", staging + aKey + ".x.throwaway"}, []string{locks + aKey, staging + aKey + ".x.throwaway", aKey, aKey + ".inf"}},
		{"data that no record tells of", []string{aKey}, []string{aKey}},
		{"what is somebody's", []string{staging + "README", staging + aKey + ".bak", "README", locks + "x"}, []string{locks + "x", staging + aKey + ".bak", staging + "README", "README"}},
		{"another volume's", []string{staging + aKey, otherKey, otherKey + ".inf", leases + otherKey, cbt + otherKey}, []string{cbt + otherKey, leases + otherKey, otherKey, otherKey + ".inf"}},
	} {
		handle, path := plain(t)
		write(t, path, c.before...)
		s := openPlain(t, handle, dirfs.Shared)
		for range 2 { // it may be interrupted itself, and be done again
			if err := s.Recover(); err != nil {
				t.Errorf("%s: %v", c.why, err)
			}
			if got := tree(t, path); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", c.why, got, c.want)
			}
		}
		s.Close()
	}
}

// A volume that a call has locked is that call's, whatever is staged of it.
func TestRecoverLeavesTheBusyAlone(t *testing.T) {
	handle, path := plain(t)
	write(t, path, ".reflinksr/staging/"+aKey, ".reflinksr/staging/"+otherKey)
	busy := openPlain(t, handle, dirfs.Shared)
	lock, err := busy.LockNew(aKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := openPlain(t, handle, dirfs.Shared).Recover(); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, path), []string{".reflinksr/locks/" + aKey, ".reflinksr/staging/" + aKey}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	lock.Unlock()
}

// What is not the SR that was attached is not opened, and what is told of it says so.
func TestOpenOfWhatIsNotTheSR(t *testing.T) {
	for why, change := range map[string]func(path string) error{
		"the directory is gone":         func(path string) error { return os.Rename(path, path+".away") },
		"the marker is gone":            func(path string) error { return os.Remove(filepath.Join(path, "sr.json")) },
		"another SR is there":           func(path string) error { return replaceIn(path, plainsr.UUID, otherKey) },
		"it is on another filesystem":   func(path string) error { return replaceIn(path, `"type": "`, `"type": "other`) },
		"the control directory is gone": func(path string) error { return os.Rename(filepath.Join(path, ".reflinksr"), filepath.Join(path, "x")) },
		"a file is in its place": func(path string) error {
			return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600))
		},
	} {
		handle, path := plain(t)
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(handle, dirfs.Shared); !errors.Is(err, fault.ErrNotAttached) {
			t.Errorf("%s: %v", why, err)
		}
		st, err := StatSR(handle, nil)
		if err != nil || st.Health[0] != Unreachable || st.Health[1] == "" || st.UUID != plainsr.UUID || st.Name != "plain" {
			t.Errorf("%s: %+v, %v", why, st, err)
		}
		if err := Detach(handle); err != nil {
			t.Errorf("%s: detaching it: %v", why, err)
		}
		if _, err := StatSR(handle, nil); !errors.Is(err, fault.ErrNotAttached) {
			t.Errorf("%s: detached, and known: %v", why, err)
		}
	}
}

func replaceIn(path, old, with string) error {
	name := filepath.Join(path, "sr.json")
	data, err := os.ReadFile(name)
	if err == nil && !strings.Contains(string(data), old) {
		err = errors.New(old + " is not in " + string(data))
	}
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strings.ReplaceAll(string(data), old, with)), 0o600)
}

// A marker that cannot be read is damage, never absence.
func TestMarkerThatCannotBeRead(t *testing.T) {
	handle, path := plain(t)
	for text, want := range map[string]error{"": fault.ErrUnavailable, "rubbish": fault.ErrUnavailable, `{"format":99}`: fault.ErrNewer} {
		if err := os.WriteFile(filepath.Join(path, "sr.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(handle, dirfs.Shared); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Names are the marker's and this host's note's, and what the marker has beside them stays.
func TestNames(t *testing.T) {
	handle, path := plain(t)
	if err := replaceIn(path, `"name"`, `"later": [1], "name"`); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(SetName(handle, "other"), SetDescription(handle, "Ω")); err != nil {
		t.Fatal(err)
	}
	st, err := StatSR(handle, func(*SR) string { return "beware" })
	if err != nil || st.Name != "other" || st.Description != "Ω" || st.Health[0] != Healthy || !strings.Contains(st.Health[1], "beware") || st.TotalSpace < st.FreeSpace || st.FreeSpace < 0 {
		t.Errorf("%+v, %v", st, err)
	}
	data, err := os.ReadFile(filepath.Join(path, "sr.json"))
	var marker map[string]any
	if err != nil || json.Unmarshal(data, &marker) != nil || marker["later"] == nil || marker["name"] != "other" {
		t.Errorf("%s, %v", data, err)
	}
	if a, err := attached.Lookup(plainsr.UUID); err != nil || a.Name != "other" || a.Description != "Ω" {
		t.Errorf("noted: %+v, %v", a, err)
	}
	for _, bad := range []string{"\xff", strings.Repeat("x", 1<<20)} {
		if err := SetName(handle, bad); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
	if left := tree(t, path); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// What is replaced is old or new: on error the old contents stand, and nothing is left of the new ones.
func TestReplace(t *testing.T) {
	handle, path := plain(t)
	s := openPlain(t, handle, dirfs.Exclusive)
	for _, data := range []string{"first", "second", ""} {
		if err := s.Replace(s.Root, "file", []byte(data[:len(data)/2]), []byte(data[len(data)/2:])); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(got) != data {
			t.Errorf("%q, %v, want %q", got, err, data)
		}
	}
	write(t, path, ".reflinksr/staging/temp")
	undone := false
	err := s.CommitAnd("temp", s.Root, "file", func() (func() error, error) { undone = true; return nil, os.ErrDeadlineExceeded })
	if got, e := os.ReadFile(filepath.Join(path, "file")); !errors.Is(err, os.ErrDeadlineExceeded) || e != nil || string(got) != "" || !undone {
		t.Errorf("%v; %q, %v", err, got, e)
	}
	write(t, path, ".reflinksr/staging/temp")
	if err := s.CommitAnd("temp", s.Root, "new", func() (func() error, error) { return nil, os.ErrDeadlineExceeded }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := s.Commit("absent", s.Root, "file"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if left := tree(t, path); !slices.Equal(left, []string{"file"}) {
		t.Errorf("left: %q", left)
	}
}

// Locks are of volumes that are there, and are had together in one order, whoever asks.
func TestLocks(t *testing.T) {
	handle, path := plain(t)
	write(t, path, aKey, aKey+".inf", otherKey, otherKey+".inf")
	s := openPlain(t, handle, dirfs.Shared)
	for _, keys := range [][2]Key{{aKey, otherKey}, {otherKey, aKey}} {
		source, target, err := s.LockBoth(keys[0], keys[1], dirfs.Shared)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.LockVolume(keys[0], dirfs.Shared)
		if err != nil {
			t.Error(err)
		}
		if err := s.tryLocked(keys[1], func() error { return errors.New("the target is locked for one alone") }); err != nil {
			t.Error(err)
		}
		again.Unlock()
		source.Unlock()
		target.Unlock()
	}
	const none = Key("00000000-0000-4000-8000-000000000000")
	for _, keys := range [][2]Key{{aKey, none}, {none, aKey}} {
		if _, _, err := s.LockBoth(keys[0], keys[1], dirfs.Shared); !errors.Is(err, fault.ErrVolumeNotFound) {
			t.Errorf("%v: %v", keys, err)
		}
	}
	if err := s.tryLocked(aKey, func() error { return os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a lock of a refusal is still held: %v", err)
	}
	cbt, err := s.LockCBT(dirfs.Shared, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockCBT(dirfs.Exclusive, true); !errors.Is(err, fault.ErrBusy) {
		t.Errorf("had by two: %v", err)
	}
	cbt.Unlock()
}

// A destruction that was interrupted is finished, and of what has come since nothing goes with it.
func TestDestructionIsFinished(t *testing.T) {
	handle, path := plain(t)
	write(t, path, aKey, aKey+".inf", otherKey, otherKey+".inf", "README", ".reflinksr/leases/"+aKey, ".reflinksr/staging/"+aKey+".inf.new")
	s := openPlain(t, handle, dirfs.Exclusive)
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(handle, dirfs.Shared); !errors.Is(err, fault.ErrNotAttached) {
		t.Errorf("ended, and open: %v", err)
	}
	if s, err := Inspect(path); err != nil || s.Meta.UUID != plainsr.UUID {
		t.Errorf("%+v, %v", s, err)
	} else {
		s.Close()
	}
	// Somebody puts a backup of one of the volumes there.
	if err := os.Remove(filepath.Join(path, otherKey)); err != nil {
		t.Fatal(err)
	}
	write(t, path, "new")
	if err := os.Rename(filepath.Join(path, "new"), filepath.Join(path, otherKey)); err != nil {
		t.Fatal(err)
	}
	root, err := dirfs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if done, err := eraseDestroyed(root, otherKey, false); done || err != nil {
		t.Errorf("another SR: %v, %v", done, err)
	}
	if done, err := eraseDestroyed(root, plainsr.UUID, false); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	names, err := root.Names()
	slices.Sort(names)
	if want := []string{otherKey, otherKey + ".inf", "README"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v, want %q", names, err, want)
	}
	if done, err := eraseDestroyed(root, "", false); done || err != nil {
		t.Errorf("again: %v, %v", done, err)
	}
}

// A directory without an SR is looked at for what it may be.
func TestInspectOfNoSR(t *testing.T) {
	_, path := plain(t)
	s, err := Inspect(path)
	if err != nil || s.Staging == nil || s.Meta.UUID != plainsr.UUID {
		t.Fatalf("%+v, %v", s, err)
	}
	if got := s.Relative(s.CBT, "x"); got != ".reflinksr/cbt/x" {
		t.Error(got)
	}
	for name, want := range map[string]*dirfs.Dir{"x": s.Root, ".reflinksr/lock": s.Control, ".reflinksr/locks/x": s.Locks, ".reflinksr/staging/x": s.Staging} {
		if d, base, err := s.openNamed(name); err != nil || d != want || s.Relative(d, base) != name {
			t.Errorf("%s: %s, %v", name, base, err)
		}
	}
	s.Close()
	if err := os.Remove(filepath.Join(path, "sr.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(path); !errors.Is(err, fault.ErrSRNotFound) || !strings.Contains(err.Error(), "control directory") {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(path, ".reflinksr")); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(path); !errors.Is(err, fault.ErrSRNotFound) || !strings.Contains(err.Error(), "mounted") {
		t.Error(err)
	}
	if _, err := Inspect("relative"); !errors.Is(err, fault.ErrInvalid) {
		t.Error(err)
	}
}

// What this host notes of an SR's volumes is whole, or it is not there.
func TestRememberedKeys(t *testing.T) {
	handle, path := plain(t)
	s := openPlain(t, handle, dirfs.Shared)
	local := *s.Meta
	local.Filesystem.Type = "ext4" // whatever it is here: one that only this host can have mounted
	s.Meta = &local
	listed := []Key{aKey}
	list := func() ([]Key, error) { return listed, nil }
	if _, err := s.Remembered(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	s.RememberNew(aKey) // there is nothing that it could be added to
	if _, err := s.Remembered(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one key alone is noted: %v", err)
	}
	if keys, err := s.Remember(list); err != nil || !slices.Equal(keys, listed) {
		t.Errorf("%q, %v", keys, err)
	}
	s.RememberNew(otherKey)
	if keys, err := s.Remembered(); err != nil || !slices.Equal(keys, []Key{aKey, otherKey}) {
		t.Errorf("%q, %v", keys, err)
	}
	if _, err := s.Remember(func() ([]Key, error) { return nil, os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a listing that failed: %v", err)
	}
	if keys, err := s.Remembered(); err != nil || len(keys) != 2 {
		t.Errorf("after that: %q, %v", keys, err)
	}
	if err := Detach(layout.Handle(path, plainsr.UUID)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remembered(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("detached: %v", err)
	}
}
