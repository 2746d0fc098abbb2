package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"reflinksr/internal/dirfs"
)

// Looking makes nothing; opening makes what only root may read, whatever was there.
func TestOpen(t *testing.T) {
	was := Path
	Path = filepath.Join(t.TempDir(), "run")
	defer func() { Path = was }()
	if _, err := Look("sr"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before: %v", err)
	}
	if _, err := os.Stat(Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a look made it: %v", err)
	}
	if err := os.Mkdir(Path, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d, err := Open("sr")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
	}
	for _, path := range []string{Path, filepath.Join(Path, "sr")} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
	if d, err := Look("sr"); err != nil {
		t.Error(err)
	} else {
		d.Close()
	}
	if _, err := Look("other"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Notes are told one by one, without what is no note; none of a place that is not there is no error; whoever fails is the last.
func TestEachNote(t *testing.T) {
	was := Path
	Path = filepath.Join(t.TempDir(), "run")
	defer func() { Path = was }()
	var seen []string
	see := func(_ *dirfs.Dir, name string) error { seen = append(seen, name); return nil }
	if err := EachNote("sr", see); err != nil || seen != nil {
		t.Errorf("nothing is there: %q, %v", seen, err)
	}
	if err := os.MkdirAll(filepath.Join(Path, "sr"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.json", "b.json", "b.lock", ".json.new"} {
		if err := os.WriteFile(filepath.Join(Path, "sr", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := EachNote("sr", see); err != nil || !slices.Equal(slices.Sorted(slices.Values(seen)), []string{"a", "b"}) {
		t.Errorf("seen %q, %v", seen, err)
	}
	enough := errors.New("enough")
	seen = nil
	if err := EachNote("sr", func(_ *dirfs.Dir, name string) error { seen = append(seen, name); return enough }); err != enough || len(seen) != 1 {
		t.Errorf("after a failure: %q, %v", seen, err)
	}
}
