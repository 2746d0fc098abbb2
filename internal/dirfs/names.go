package dirfs

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// Rename moves from, in d, to the name to, in dst, replacing what is there.
func (d *Dir) Rename(from string, dst *Dir, to string) error {
	rename := func() error { return unix.Renameat(d.Fd(), from, dst.Fd(), to) }
	err := sys.Do(rename)
	if err == unix.EXDEV && dst.adopt(d, from) {
		err = sys.Do(rename)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: d.Join(from), New: dst.Join(to), Err: err}
	}
	return nil
}

// Swap exchanges two existing names atomically (RENAME_EXCHANGE).
func (d *Dir) Swap(from string, dst *Dir, to string) error {
	exchange := func() error { return unix.Renameat2(d.Fd(), from, dst.Fd(), to, unix.RENAME_EXCHANGE) }
	err := sys.Do(exchange)
	if err == unix.EXDEV {
		there, back := dst.adopt(d, from), d.adopt(dst, to)
		if there || back {
			err = sys.Do(exchange)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: d.Join(from), New: dst.Join(to), Err: err}
	}
	return nil
}

// Remove unlinks name; an absent name is no error.
func (d *Dir) Remove(name string) error {
	err := sys.Do(func() error { return unix.Unlinkat(d.Fd(), name, 0) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: d.Join(name), Err: err}
	}
	return nil
}

// RemoveFile is Remove for what should be a file of ours. A directory is none and
// stays.
func (d *Dir) RemoveFile(name string) error {
	err := d.Remove(name)
	if errors.Is(err, unix.EISDIR) {
		slog.Warn("a directory with the name of a file of ours stays", "dir", d.Join(name))
		return nil
	}
	return err
}

// Rmdir removes the empty directory name; an absent one is no error.
func (d *Dir) Rmdir(name string) error {
	err := sys.Do(func() error { return unix.Unlinkat(d.Fd(), name, unix.AT_REMOVEDIR) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: d.Join(name), Err: err}
	}
	return nil
}

// Names lists the directory in no particular order.
func (d *Dir) Names() ([]string, error) {
	// A descriptor of its own: the read position belongs to the open directory.
	fresh, err := d.Sub(".")
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	return fresh.f.Readdirnames(-1)
}
