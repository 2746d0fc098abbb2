package dirfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

func openTemp(t *testing.T) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

// What is written is there whole, with a mode that lets nobody else in, and a name that is taken is not written over.
func TestWriting(t *testing.T) {
	d, path := openTemp(t)
	defer unix.Umask(unix.Umask(0o077))
	read := func(name, want string) {
		t.Helper()
		data, err := d.Read(name, 100)
		st, e := os.Lstat(filepath.Join(path, name))
		if err != nil || e != nil || string(data) != want || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %q, %v; %v, %v", name, data, err, st, e)
		}
	}
	if err := d.WriteNew("new", []byte("a"), nil, []byte("bc")); err != nil {
		t.Fatal(err)
	}
	read("new", "abc")
	if err := d.WriteNew("new", []byte("x")); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	read("new", "abc")
	for _, text := range []string{"one", "two", ""} {
		if err := d.Publish("note", []byte(text)); err != nil {
			t.Fatal(err)
		}
		read("note", text)
	}
	if err := d.Republish("note", []byte("three")); err != nil {
		t.Fatal(err)
	}
	read("note", "three")
	if _, err := d.Read("note", 4); !errors.Is(err, fault.ErrDamaged) {
		t.Errorf("longer than it may be: %v", err)
	}
	if names, err := d.Names(); err != nil || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	sub, err := d.Mkdir("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if st, err := os.Stat(filepath.Join(path, "sub")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	if again, err := d.Mkdir("sub"); err != nil {
		t.Error(err)
	} else {
		again.Close()
	}
}

// Names are moved, exchanged and removed; removing what is not there is no error, but a directory is not removed as a file.
func TestNames(t *testing.T) {
	d, path := openTemp(t)
	sub, err := d.Mkdir("sub")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for _, name := range []string{"a", "b"} {
		if err := d.WriteNew(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	list := func() string {
		var all []string
		filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				data, _ := os.ReadFile(p)
				all = append(all, strings.TrimPrefix(p, path+"/")+"="+string(data))
			}
			return err
		})
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		what string
		do   func() error
		err  error
		want string
	}{
		{"move", func() error { return d.Rename("a", sub, "c") }, nil, "b=b sub/c=a"},
		{"move over another", func() error { return sub.Rename("c", d, "b") }, nil, "b=a"},
		{"move nothing", func() error { return d.Rename("none", sub, "c") }, os.ErrNotExist, "b=a"},
		{"exchange with nothing", func() error { return d.Swap("b", sub, "c") }, os.ErrNotExist, "b=a"},
		{"make", func() error { return sub.WriteNew("c", []byte("c")) }, nil, "b=a sub/c=c"},
		{"exchange", func() error { return d.Swap("b", sub, "c") }, nil, "b=c sub/c=a"},
		{"remove", func() error { return d.Remove("b") }, nil, "sub/c=a"},
		{"remove nothing", func() error { return errors.Join(d.Remove("b"), d.RemoveFile("b"), d.Rmdir("b")) }, nil, "sub/c=a"},
		{"remove a directory as a file", func() error { return d.Remove("sub") }, unix.EISDIR, "sub/c=a"},
		{"remove what should be a file", func() error { return d.RemoveFile("sub") }, nil, "sub/c=a"},
		{"remove a full directory", func() error { return d.Rmdir("sub") }, unix.ENOTEMPTY, "sub/c=a"},
		{"empty it", func() error { return sub.RemoveFile("c") }, nil, ""},
		{"remove it", func() error { return d.Rmdir("sub") }, nil, ""},
	} {
		if err := c.do(); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := list(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	for name, want := range map[string]bool{".": true, "none": false} {
		if is, err := d.IsDir(name); is != want || err != nil {
			t.Errorf("%s: %v, %v", name, is, err)
		}
	}
	if real, err := d.Real(); err != nil || filepath.Base(real) != filepath.Base(path) {
		t.Errorf("%q, %v", real, err)
	}
}

// A lock is had by one, or by several that only look, and who cannot have it is told by whom.
func TestLocks(t *testing.T) {
	d, path := openTemp(t)
	if lock, busy, err := d.LookLock("lock"); lock != nil || busy != "" || err != nil {
		t.Errorf("a look makes a lock file: %v, %q, %v", lock, busy, err)
	}
	one, err := d.LockFile("lock", "it", Shared, false)
	if err != nil {
		t.Fatal(err)
	}
	two, err := d.LockFile("lock", "it", Shared, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.TryLock("lock", "it"); !errors.Is(err, fault.ErrBusy) || !strings.Contains(err.Error(), "it is locked by ") {
		t.Errorf("with two that look: %v", err)
	}
	one.Unlock()
	two.Unlock()
	alone, err := d.Lock("lock", "it")
	if err != nil {
		t.Fatal(err)
	}
	if _, busy, err := d.LookLockFor("lock", 0); busy == "" || err != nil {
		t.Errorf("had alone: %q, %v", busy, err)
	}
	if same, err := d.SameFile("lock", alone.File()); !same || err != nil {
		t.Errorf("%v, %v", same, err)
	}
	alone.Discard()
	if there, err := d.Exists("lock"); there || err != nil {
		t.Errorf("discarded: %v, %v", there, err)
	}
	self, err := d.LockSelf()
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(other.Fd(), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("a directory that is locked: %v", err)
	}
	self.Unlock()
	(*Lock)(nil).Unlock()
	(*Lock)(nil).Discard()
	if names, err := d.Names(); err != nil || len(names) > 0 {
		t.Errorf("left: %q, %v", names, err)
	}
}
