package main

import (
	"context"
	"encoding/binary"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/sr"
)

// TestFilesArePrivate makes every kind of file that an SR and its host have, under
// whatever umask and in whatever directory: files are 0600 and directories 0700. The
// SR's own directory stays as its operator has it.
func TestFilesArePrivate(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices")
	root := install(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			if err := scratch.Available(kind); err != nil {
				tests.Skip(t, err)
			}
			fs, err := scratch.Make(kind, 1<<30, filepath.Join(t.TempDir(), "mnt"))
			if err != nil {
				t.Fatal(err)
			}
			defer fs.Remove()
			for _, umask := range []string{"0", "0777"} {
				for name, prepare := range map[string]func(path string) error{
					"plain":        func(path string) error { return os.Chmod(path, 0o755) },
					"set-group-ID": func(path string) error { return unix.Chmod(path, 0o2777) },
					"default ACL":  func(path string) error { return unix.Setxattr(path, "system.posix_acl_default", everybody(), 0) },
				} {
					t.Run("umask "+umask+" "+name, func(t *testing.T) {
						path := filepath.Join(fs.Dir, umask+" "+name)
						if err := os.Mkdir(path, 0o755); err != nil {
							t.Fatal(err)
						}
						if err := prepare(path); err != nil {
							t.Fatal(err)
						}
						arePrivate(t, caller{t, root, umask}, path)
					})
				}
			}
		})
	}
}

// everybody is an access control list (acl(5)) by which everybody but the owner may
// do everything, in the kernel's form (linux/posix_acl_xattr.h).
func everybody() []byte {
	acl := binary.LittleEndian.AppendUint32(nil, 2) // POSIX_ACL_XATTR_VERSION
	for _, entry := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 0, 1<<32 - 1}, {0x02, 7, 12345}, {0x04, 7, 1<<32 - 1}, {0x10, 7, 1<<32 - 1}, {0x20, 7, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, entry.tag)
		acl = binary.LittleEndian.AppendUint16(acl, entry.perm)
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	return acl
}

func arePrivate(t *testing.T, c caller, path string) {
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	uuid, err := sr.NewKey() // an SR's UUID is any
	if err != nil {
		t.Fatal(err)
	}
	type volume struct {
		Key string
		URI []string
	}
	var conf map[string]string
	var handle string
	var first, second, snapshot volume
	c.call(smapi.SRCreate{UUID: string(uuid), Configuration: map[string]string{"path": path}}, &conf)
	c.call(smapi.SRAttach{Configuration: conf}, &handle)
	for _, v := range []*volume{&first, &second} {
		c.call(smapi.VolumeCreate{SR: handle, Size: 1 << 20}, v)
	}
	c.call(smapi.VolumeSnapshot{SR: handle, Key: first.Key}, &snapshot)
	c.call(smapi.VolumeClone{SR: handle, Key: first.Key}, nil)
	c.call(smapi.VolumeRevert{SR: handle, Snapshot: snapshot.Key, Key: first.Key}, nil)
	c.call(smapi.VolumeSetName{SR: handle, Key: first.Key, NewName: "other"}, nil)
	c.call(smapi.VolumeSet{SR: handle, Key: first.Key, K: "a", V: "b"}, nil)
	c.call(smapi.VolumeResize{SR: handle, Key: first.Key, NewSize: 2 << 20}, nil)
	c.call(smapi.SRSetName{SR: handle, NewName: "other"}, nil)
	for i, v := range []volume{first, second} {
		c.call(smapi.DatapathOpen{URI: v.URI[0], Persistent: i == 0}, nil)
		c.call(smapi.DatapathAttach{URI: v.URI[0], Domain: "1"}, nil)
		c.call(smapi.DatapathActivate{URI: v.URI[0], Domain: "1"}, nil)
	}

	seen := map[string]bool{}
	private(t, path, seen)
	for _, name := range []string{"sr.json", first.Key, first.Key + ".inf", "lock", "leases.lock", "locks/" + first.Key, "leases/" + first.Key} {
		if !seen[name] && !seen[".reflinksr/"+name] {
			t.Errorf("%s is not there: nothing is known of its mode", name)
		}
	}
	staged, _ := filepath.Glob(path + "/.reflinksr/staging/*.throwaway")
	if len(staged) != 1 {
		t.Errorf("%d nonpersistent disks", len(staged))
	}
	for _, dir := range []string{"", "sr", "volume"} {
		mode(t, filepath.Join(rundir.Path, dir), 0o700)
	}
	notes, _ := filepath.Glob(filepath.Join(rundir.Path, "*", string(uuid)+"*"))
	if len(notes) < 3 {
		t.Errorf("there are only the notes %q", notes)
	}
	for _, note := range notes {
		mode(t, note, 0o600)
	}

	for _, v := range []volume{first, second} {
		c.call(smapi.DatapathDeactivate{URI: v.URI[0], Domain: "1"}, nil)
		c.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "1"}, nil)
		c.call(smapi.DatapathClose{URI: v.URI[0]}, nil)
	}
	c.call(smapi.SRDetach{SR: handle}, nil)

	// A backup that was restored with other modes, and without what was empty.
	for dir, mode := range map[string]os.FileMode{".reflinksr": 0o777, ".reflinksr/staging": 0o755, ".reflinksr/locks": os.ModeSetgid | 0o770} {
		if err := os.Chmod(filepath.Join(path, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(path, ".reflinksr/leases")); err != nil {
		t.Fatal(err)
	}
	c.call(smapi.SRAttach{Configuration: conf}, nil)
	private(t, path, seen)
	c.call(smapi.SRDestroy{SR: handle}, nil)
	c.call(smapi.SRDetach{SR: handle}, nil)
	if after, err := os.Stat(path); err != nil || after.Mode() != before.Mode() {
		t.Errorf("the SR's directory was %v and is %v, %v", before.Mode(), after.Mode(), err)
	}
}

// private checks everything in an SR, and adds the names to seen.
func private(t *testing.T, path string, seen map[string]bool) {
	err := filepath.WalkDir(path, func(name string, entry iofs.DirEntry, err error) error {
		if err != nil || name == path {
			return err
		}
		seen[strings.TrimPrefix(name, path+"/")] = true
		want := uint32(0o600)
		if entry.IsDir() {
			want = 0o700
		}
		mode(t, name, want)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func mode(t *testing.T, path string, want uint32) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != want {
		t.Errorf("%s has mode %#o, want %#o, %v", path, st.Mode&0o7777, want, err)
	}
}

// caller makes calls, each a process, under a umask.
type caller struct {
	t           *testing.T
	root, umask string
}

func (c caller) call(r smapi.Request, out any) {
	c.t.Helper()
	command, err := calls(c.root, "modes").Command(r)
	if err != nil {
		c.t.Fatal(err)
	}
	command.Wrap = func(path string, args ...string) (string, []string, error) {
		return "/bin/sh", append([]string{"sh", "-c", fmt.Sprintf(`umask %s; exec "$0" "$@"`, c.umask), path}, args...), nil
	}
	if err := command.Run(context.Background()).Into(out); err != nil {
		c.t.Fatalf("%s: %v", command.Request, err)
	}
}
