package dirfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// A file that has a name elsewhere as well is refused, also if it loses the one in the
// directory between two looks at it and so seems to have no other.
func TestOpenOfAnotherFileIsRefused(t *testing.T) {
	outside, path := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	done, swapped := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				swapped <- nil
				return
			default:
			}
			theirs, ours, name := filepath.Join(path, "theirs"), filepath.Join(path, "ours"), filepath.Join(path, "name")
			if err := errors.Join(os.Link(filepath.Join(outside, "file"), theirs), os.Rename(theirs, name),
				os.WriteFile(ours, []byte("ours"), 0o600), os.Rename(ours, name)); err != nil {
				swapped <- err
				return
			}
		}
	}()
	refused, opened := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end) || refused == 0 || opened == 0; {
		if len(swapped) > 0 || t.Failed() {
			break
		}
		data, err := dir.Read("name", 100)
		switch {
		case string(data) == "theirs":
			t.Error("a file with another name elsewhere was opened")
		case errors.Is(err, fault.ErrDamaged):
			refused++
		case err == nil:
			opened++
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, fault.ErrBusy):
			t.Error(err)
		}
	}
	close(done)
	if err := <-swapped; err != nil {
		t.Fatal(err)
	}
	t.Logf("opened %d times, refused %d times", opened, refused)
}

// What a Dir opens is a regular file with one name, whatever was planted.
func TestDirRefusesWhatIsNoFile(t *testing.T) {
	base := t.TempDir()
	d, err := OpenDir(base)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(base, name) }
	for _, err := range []error{
		os.Symlink(secret, at("link")), os.Symlink("file", at("inner")), os.Mkdir(at("dir"), 0o700), unix.Mkfifo(at("fifo"), 0o600),
		os.WriteFile(at("file"), nil, 0o600), os.WriteFile(at("twice"), nil, 0o600), os.Link(at("twice"), at("again")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"link", "inner", "dir", "fifo", "twice", "again"} {
		if f, err := d.Open(name, unix.O_RDWR); !errors.Is(err, fault.ErrDamaged) {
			t.Errorf("%s was opened: %v, %v", name, f, err)
		}
		if there, err := d.Exists(name); err != nil || !there {
			t.Errorf("%s is not there: %v", name, err)
		}
	}
	if _, err := d.Open("none", unix.O_RDONLY); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if f, err := d.Create("link"); err == nil {
		t.Errorf("created through a link: %v", f.Name())
	}
	f, err := d.Open("file", unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := d.Sub("link"); err == nil {
		t.Error("a link is taken for a directory")
	}
}

// Whoever waited for a lock file that its holder unlinked locks the new one.
func TestDiscardedLock(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	first, err := d.Lock("l", "it")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.LockFile("l", "it", Exclusive, true); !errors.Is(err, fault.ErrBusy) || !strings.Contains(err.Error(), "locked by") {
		t.Errorf("a held lock: %v", err)
	}
	got := make(chan *Lock)
	go func() {
		l, err := d.Lock("l", "it")
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	first.Discard()
	second := <-got
	if same, err := d.SameFile("l", second.f); err != nil || !same {
		t.Errorf("the second lock is on a file without a name: %v", err)
	}
	second.Unlock()
}
