package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
