package disk

import (
	"os"
	"path/filepath"
	"testing"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// What a power cut leaves: nothing that was not made durable, everything that was,
// and, after a commit of metadata alone, a file without what was written to it.
func TestCut(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if err := scratch.Available(kind); err != nil {
				tests.Skip(t, err)
			}
			shelf, err := NewShelf(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer shelf.Remove()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			dir := t.TempDir()
			must(shelf.Format(kind, "blank"))
			must(shelf.Clone("blank", "run"))
			m, err := shelf.Mount(kind, "run", dir)
			must(err)
			must(os.WriteFile(filepath.Join(dir, "f"), []byte("hello"), 0o600))
			must(m.Cut("unsynced"))
			must(m.Commit())
			must(m.Cut("committed"))
			before, err := m.Written()
			must(err)
			f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
			must(err)
			must(f.Sync())
			must(f.Close())
			after, err := m.Written()
			must(err)
			if after <= before {
				t.Errorf("an fsync wrote %d-%d sectors", after, before)
			}
			must(m.Cut("synced"))
			must(m.Unmount())
			for _, want := range []struct {
				image string
				there bool
				text  string
			}{{"unsynced", false, ""}, {"committed", true, ""}, {"synced", true, "hello"}} {
				m, err := shelf.Mount(kind, want.image, dir)
				must(err)
				data, err := os.ReadFile(filepath.Join(dir, "f"))
				if (err == nil) != want.there || string(data) != want.text {
					t.Errorf("%s: the file holds %q, %v", want.image, data, err)
				}
				must(m.Unmount())
			}
		})
	}
}
