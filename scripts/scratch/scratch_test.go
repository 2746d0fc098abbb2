package scratch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/reflink"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if status, again := Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// The shipped images stand in for mkfs: two of a kind side by side, grown, each
// with blocks that can be shared and, on btrfs, an identity of its own.
func TestShippedImages(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	t.Setenv("PATH", "")
	saved := mkfs
	defer func() { mkfs = saved }()
	mkfs = map[string][]string{"btrfs": {"no-mkfs-here"}, "xfs": {"no-mkfs-here"}}
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			uuids := map[string]bool{}
			for _, name := range []string{"a", "b"} {
				fs, err := Make(kind, 1<<30, filepath.Join(t.TempDir(), name))
				if err != nil {
					t.Fatal(err)
				}
				defer fs.Remove()
				dir, err := dirfs.OpenDir(fs.Dir)
				if err != nil {
					t.Fatal(err)
				}
				defer dir.Close()
				if err := filesystem.Probe(dir, reflink.Attributes{NoCOW: true}); err != nil {
					t.Error(err)
				}
				total, _, err := filesystem.Space(dir)
				if err != nil || total < 900<<20 {
					t.Errorf("the filesystem has %d bytes, %v; want about 1 GiB", total, err)
				}
				id, err := filesystem.Of(dir)
				if err != nil || id.Type != kind {
					t.Errorf("identified as %v, %v", id, err)
				}
				uuids[id.UUID] = true
			}
			if kind == "btrfs" && len(uuids) != 2 {
				t.Errorf("two images have the UUIDs %v", uuids)
			}
		})
	}
}

func TestMkfs(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			if err := Available(kind); err != nil {
				tests.Skip(t, err)
			}
			dir := filepath.Join(t.TempDir(), "mnt")
			fs, err := Make(kind, 512<<20, dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := fs.Remount(true); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err == nil {
				t.Error("a read-only filesystem was written to")
			}
			if err := fs.Remove(); err != nil {
				t.Error(err)
			}
			if out, err := exec.Command("grep", dir, "/proc/self/mountinfo").CombinedOutput(); err == nil {
				t.Errorf("still mounted: %s", out)
			}
		})
	}
}

// A filesystem that comes back while somebody still has a file of it open is the same one, and
// has what that is written.
func TestMountAgainWhileInUse(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	for _, kind := range []string{"btrfs", "xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			if err := Available(kind); err != nil {
				tests.Skip(t, err)
			}
			fs, err := Make(kind, 512<<20, filepath.Join(t.TempDir(), "mnt"))
			if err != nil {
				t.Fatal(err)
			}
			defer fs.Remove()
			f, err := os.Create(filepath.Join(fs.Dir, "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := errors.Join(fs.Unmount(), fs.Mount()); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("seen"); err != nil {
				t.Error(err)
			}
			if data, err := os.ReadFile(filepath.Join(fs.Dir, "f")); string(data) != "seen" {
				t.Errorf("it holds %q, %v", data, err)
			}
		})
	}
}
