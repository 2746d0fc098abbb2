package filesystem_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// What fills a file may take all but a fiftieth, and again what was freed; what is refused says what is kept.
func TestFilling(t *testing.T) {
	tests.Root(t, "a small filesystem to fill")
	const size = 64 << 20
	fs, err := scratch.Make("tmpfs", size, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Unmount()
	dir, err := dirfs.OpenDir(fs.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	piece := make([]byte, 300<<10)
	fill := func() (written int64, refused error) {
		f, err := os.OpenFile(filepath.Join(fs.Dir, "file"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for filling := filesystem.Fill(dir); ; written += int64(len(piece)) {
			if err := filling.Take(int64(len(piece))); err != nil {
				return written, err
			}
			if _, err := f.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // the second time after it was emptied
		written, err := fill()
		r, e := filesystem.RoomOf(dir)
		if !errors.Is(err, fault.ErrNoSpace) || !strings.Contains(err.Error(), "1.3 MiB are kept for what guests write") || e != nil {
			t.Errorf("%v, %v", err, e)
		}
		if r.Free < size/50 || r.Free > size/50+2*int64(len(piece)) || written < size*9/10 {
			t.Errorf("%d bytes were written, and %d of %d are left", written, r.Free, r.Total)
		}
	}
}
