package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/rundir"
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
	c.call("SR.create", map[string]any{"uuid": string(uuid), "configuration": map[string]string{"path": path}, "name": "", "description": ""}, &conf)
	c.call("SR.attach", map[string]any{"configuration": conf}, &handle)
	for _, v := range []*volume{&first, &second} {
		c.call("Volume.create", map[string]any{"sr": handle, "name": "", "description": "", "size": 1 << 20, "sharable": false}, v)
	}
	args := func(v volume, more ...any) map[string]any {
		all := map[string]any{"sr": handle, "key": v.Key}
		for i := 0; i < len(more); i += 2 {
			all[more[i].(string)] = more[i+1]
		}
		return all
	}
	c.call("Volume.snapshot", args(first), &snapshot)
	c.call("Volume.clone", args(first), nil)
	c.call("Volume.revert", args(first, "snapshot", snapshot.Key), nil)
	c.call("Volume.set_name", args(first, "new_name", "other"), nil)
	c.call("Volume.set", args(first, "k", "a", "v", "b"), nil)
	c.call("Volume.resize", args(first, "new_size", 2<<20), nil)
	c.call("SR.set_name", map[string]any{"sr": handle, "new_name": "other"}, nil)
	for i, v := range []volume{first, second} {
		c.call("Datapath.open", map[string]any{"uri": v.URI[0], "persistent": i == 0}, nil)
		c.call("Datapath.attach", map[string]any{"uri": v.URI[0], "domain": "1"}, nil)
		c.call("Datapath.activate", map[string]any{"uri": v.URI[0], "domain": "1"}, nil)
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
		t.Errorf("%d throw-away disks", len(staged))
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
		c.call("Datapath.deactivate", map[string]any{"uri": v.URI[0], "domain": "1"}, nil)
		c.call("Datapath.detach", map[string]any{"uri": v.URI[0], "domain": "1"}, nil)
		c.call("Datapath.close", map[string]any{"uri": v.URI[0]}, nil)
	}
	c.call("SR.detach", map[string]any{"sr": handle}, nil)

	// A backup that was restored with other modes, and without what was empty.
	for dir, mode := range map[string]os.FileMode{".reflinksr": 0o777, ".reflinksr/staging": 0o755, ".reflinksr/locks": os.ModeSetgid | 0o770} {
		if err := os.Chmod(filepath.Join(path, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(path, ".reflinksr/leases")); err != nil {
		t.Fatal(err)
	}
	c.call("SR.attach", map[string]any{"configuration": conf}, nil)
	private(t, path, seen)
	c.call("SR.destroy", map[string]any{"sr": handle}, nil)
	c.call("SR.detach", map[string]any{"sr": handle}, nil)
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

func (c caller) call(method string, args map[string]any, out any) {
	c.t.Helper()
	args["dbg"] = "modes"
	request, err := json.Marshal(args)
	if err != nil {
		c.t.Fatal(err)
	}
	dir := filepath.Join(c.root, "volume", "org.xen.xapi.storage.reflink")
	if strings.HasPrefix(method, "Datapath.") {
		dir = filepath.Join(c.root, "datapath", "loop+blkback")
	}
	p := exec.Command("sh", "-c", fmt.Sprintf(`umask %s; exec "$0" --json`, c.umask), filepath.Join(dir, method))
	p.Stdin = bytes.NewReader(request)
	answer, err := p.Output()
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, request, err, answer)
	}
}
