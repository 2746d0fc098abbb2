package attached

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
)

const (
	otherKey = "465c68ee-966a-4644-880d-1122a36ab9a1"
	thirdKey = "565c68ee-966a-4644-880d-1122a36ab9a1"
)

// apart gives this test a directory of what this boot notes, and another one.
func apart(t *testing.T) (dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	was := rundir.Path
	rundir.Path = filepath.Join(dir, "run")
	t.Cleanup(func() { rundir.Path = was })
	return dir
}

// Which SRs are attached is told as it was noted; one whose note is damaged is neither attached nor absent.
func TestAttached(t *testing.T) {
	apart(t)
	if handles, err := Handles(); err != nil || len(handles) > 0 {
		t.Errorf("before: %q, %v", handles, err)
	}
	if _, err := Lookup(aKey); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	a, b := SR{Path: "/srv/a", UUID: aKey, Name: "n"}, SR{Path: "/srv/b b", UUID: otherKey}
	for _, s := range []SR{a, b} {
		if err := With(s.UUID, s.SaveIn); err != nil {
			t.Fatal(err)
		}
	}
	handles, err := Handles()
	slices.Sort(handles)
	if want := []string{a.Handle(), b.Handle()}; err != nil || !slices.Equal(handles, want) {
		t.Errorf("%q, %v, want %q", handles, err, want)
	}
	if got, err := Find(a.Handle()); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	for _, handle := range []string{layout.Handle("/srv/c", aKey), layout.Handle("/srv/a", thirdKey), "x", ""} {
		if _, err := Find(handle); !errors.Is(err, fault.ErrNotAttached) {
			t.Errorf("%s: %v", handle, err)
		}
	}
	if handle, err := At("/srv/b b"); err != nil || handle != b.Handle() {
		t.Errorf("%s, %v", handle, err)
	}
	if _, err := At("/srv"); !errors.Is(err, fault.ErrNotAttached) {
		t.Error(err)
	}
	if err := errors.Join(a.Edit(func(s *SR) { s.Name = "m" }), SR{Path: "/srv/z", UUID: otherKey}.Edit(func(s *SR) { s.Name = "z" }), SetRecovered(a.Handle())); err != nil {
		t.Error(err)
	}
	if got, err := Lookup(aKey); err != nil || got.Name != "m" || !got.Recovered {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Lookup(otherKey); err != nil || got != b {
		t.Errorf("one that is attached elsewhere was changed: %+v, %v", got, err)
	}
	if done, err := Recovered(b.Handle()); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if err := os.WriteFile(filepath.Join(rundir.Path, rundir.Attached, otherKey+".json"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(b.Handle()); err == nil || errors.Is(err, fault.ErrNotAttached) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("damaged: %v", err)
	}
	if handles, err := Handles(); err != nil || !slices.Equal(handles, []string{a.Handle()}) {
		t.Errorf("%q, %v", handles, err)
	}
	if err := With(aKey, func(d *dirfs.Dir) error { return d.Remove(aKey + ".json") }); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(rundir.Path, rundir.Attached, aKey+"*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// A path is in an SR's directory whatever it is reached by, and whether the SR is attached, adopted or destroyed.
func TestContaining(t *testing.T) {
	dir := apart(t)
	for _, name := range []string{"plain/x", "sr/deep/er", "control/.reflinksr/staging", "old", "destroyed", "attached", "not/.infs"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sr/sr.json", "old/" + aKey, "old/" + aKey + ".inf", "destroyed/sr.json.destroyed", "not/" + aKey + ".inf", "not/x.inf", "not/x"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "sr"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := SR{Path: filepath.Join(dir, "attached"), UUID: aKey}
	if err := With(aKey, s.SaveIn); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"plain/x/f": "", "not/f": "", "f": "", "sr/f": "sr", "sr/sr.json": "sr", "sr/deep/er/f": "sr", "link/f": "sr", "link/deep/../f": "sr",
		"control/.reflinksr/staging/f": "control", "control/f": "control", "old/f": "old", "destroyed/f": "destroyed", "attached/f": "attached",
	} {
		got, err := Containing(filepath.Join(dir, path))
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := Containing(filepath.Join(dir, "none/f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
}

// A device's file is a volume's if a note says so, whatever else is noted.
func TestNoteOfFile(t *testing.T) {
	apart(t)
	if n, err := NoteOfFile(1, 2); n != nil || err != nil {
		t.Errorf("before: %+v, %v", n, err)
	}
	notes := filepath.Join(rundir.Path, rundir.Volumes)
	if err := os.MkdirAll(notes, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		aKey + "." + otherKey + ".json": `{"dev":1,"ino":2,"domains":["5"],"active":[{"domain":"5","write":true}]}`,
		aKey + "." + thirdKey + ".json": `rubbish`, aKey + "." + otherKey + ".lock": ``, "x.json": `{"dev":3,"ino":4}`,
	} {
		if err := os.WriteFile(filepath.Join(notes, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n, err := NoteOfFile(1, 2)
	if err != nil || n == nil || n.Volume != "volume "+otherKey+" of SR "+aKey || len(n.Domains) != 1 || !n.Active[0].Write {
		t.Errorf("%+v, %v", n, err)
	}
	for _, file := range [][2]uint64{{2, 1}, {1, 3}, {3, 4}, {0, 0}} {
		if n, err := NoteOfFile(file[0], file[1]); n != nil || err != nil {
			t.Errorf("%v: %+v, %v", file, n, err)
		}
	}
	for domain, want := range map[string]bool{"0": true, "u0_x": true, "u0": true, "5": false, "": false, "00": false} {
		if IsDom0(domain) != want {
			t.Errorf("%q: not %v", domain, want)
		}
	}
}

// An SR is attached by one interface at a time.
func TestMustBeBy(t *testing.T) {
	for _, c := range []struct {
		by, before string
		refused    bool
	}{{"", "", false}, {SMAPIv1, SMAPIv1, false}, {"", SMAPIv1, true}, {SMAPIv1, "", true}} {
		if err := (SR{UUID: "u", Path: "/here", Interface: c.before}).MustBeBy(c.by); errors.Is(err, fault.ErrSRInUse) != c.refused || (err != nil) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
