package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/fs/fstest"

	"reflinksr/datapath"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/sr"
)

// Adopting a simple file SR changes no file of it, nor of anybody else's in the
// directory: contents, modes, owners, links.
func TestAdoptionChangesNothing(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if err := scratch.Available(kind); err != nil {
				tests.Skip(t, err)
			}
			mounted, err := scratch.Make(kind, 512<<20, filepath.Join(t.TempDir(), "mnt"))
			if err != nil {
				t.Fatal(err)
			}
			defer mounted.Remove()
			old, before := filepath.Join(mounted.Dir, "sr"), filepath.Join(mounted.Dir, "before")
			const key = "365c68ee-966a-4644-880d-1122a36ab9a1"
			if err := os.Mkdir(old, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := fstest.Apply(
				fstest.CreateFile(key, []byte("a thousand bytes, or fewer"), 0o644),
				fstest.CreateFile(key+".inf", []byte(`{"name": "My Disk", "description": "", "size": 26}`), 0o644),
				fstest.CreateFile("notes.txt", []byte("foreign"), 0o600),
				fstest.CreateDir("lost+found", 0o700),
				fstest.Symlink("/etc/passwd", "link"),
			).Apply(old); err != nil {
				t.Fatal(err)
			}
			if err := fs.CopyDir(before, old); err != nil {
				t.Fatal(err)
			}
			id, err := sr.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			conf, err := sr.Create(string(id), map[string]string{"path": old}, "", "")
			if err != nil {
				t.Fatal(err)
			}
			handle, err := sr.Attach(conf)
			if err != nil {
				t.Fatal(err)
			}
			if err := datapath.DetachSR(handle); err != nil {
				t.Fatal(err)
			}
			// What is ours now stands beside it, and is set aside for the comparison.
			for _, name := range []string{"sr.json", ".reflinksr"} {
				if err := os.Rename(filepath.Join(old, name), filepath.Join(mounted.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := fstest.CheckDirectoryEqual(before, old); err != nil {
				t.Error(err)
			}
		})
	}
}
