package sys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a signal interrupted is done again, and what others hold for a moment is waited for; nothing else is.
func TestRetry(t *testing.T) {
	calls := 0
	fails := func(errs ...error) func() error {
		calls = 0
		return func() error { calls++; return errs[min(calls, len(errs))-1] }
	}
	if err := Do(fails(unix.EINTR, unix.EINTR, nil)); err != nil || calls != 3 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := Do(fails(unix.EBUSY, nil)); err != unix.EBUSY || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := Insist(unix.EBUSY, fails(unix.EBUSY, unix.EINTR, unix.EBUSY, nil)); err != nil || calls != 4 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if err := Insist(unix.EBUSY, fails(unix.EBUSY, unix.EIO, nil)); err != unix.EIO || calls != 2 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// An error names the file.
func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if kind, err := KindOf(f); err != nil || kind == "" {
		t.Errorf("%q, %v", kind, err)
	}
	if st, err := Fstat(f); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		t.Errorf("%+v, %v", st, err)
	}
	f.Close()
	for what, call := range map[string]func() error{
		"stat":   func() error { _, err := Fstat(f); return err },
		"statfs": func() error { _, err := KindOf(f); return err },
	} {
		var e *os.PathError
		if err := call(); !errors.As(err, &e) || e.Path != path || e.Op != what {
			t.Errorf("%s of a closed file: %v", what, err)
		}
	}
	if got := KindOfMagic(&unix.Statfs_t{Type: unix.BTRFS_SUPER_MAGIC}); got != "btrfs" {
		t.Error(got)
	}
	if got := KindOfMagic(&unix.Statfs_t{Type: 0x1234}); got != "filesystem 0x1234" {
		t.Error(got)
	}
	if Text(path) != "" || Text(filepath.Join(path, "x")) != "" {
		t.Error("an empty file says something")
	}
}
