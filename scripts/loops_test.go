package scripts

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/internal/loop"
	"reflinksr/scripts/tests"
)

// A scenario that ends detaches what is left of its own, and nothing of another's that has
// a volume of the same name: two runs may be on one machine, with the same fixed keys.
func TestCleanUpSparesVolumesOfOthers(t *testing.T) {
	tests.Root(t, "attaching loop devices")
	const key = "365c68ee-0000-4000-8000-000000000000"
	ours, theirs := t.TempDir(), t.TempDir()
	attached := map[string]loop.Device{}
	for _, path := range []string{filepath.Join(ours, key), filepath.Join(ours, "other"), filepath.Join(theirs, key), filepath.Join(theirs, "x"+key+".img")} {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = f.Truncate(1 << 20)
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "scripts-test"})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer d.Detach()
		attached[path] = d
	}
	s := &script{work: ours, keys: map[string]bool{key: true}}
	if left := s.loopsBelow(); len(left) != 2 {
		t.Errorf("of the scenario's there are %q", left)
	}
	s.cleanUp()
	for path, d := range attached {
		_, err := d.Binding()
		if gone := errors.Is(err, loop.ErrGone); gone != (filepath.Dir(path) == ours) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
