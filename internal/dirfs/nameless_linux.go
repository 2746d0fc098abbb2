package dirfs

import (
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// CreateNameless makes a file in the directory that has no name and goes when it is
// closed, whatever becomes of the process.
func (d *Dir) CreateNameless() (*os.File, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	})
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), d.Join("(nameless)")), nil
	case unix.EOPNOTSUPP: // NFS, OCFS2
		return d.createUnlinked()
	}
	return nil, &os.PathError{Op: "create", Path: d.Join("(nameless)"), Err: err}
}

// createUnlinked takes the name away again. If it cannot, or is killed in between,
// recovery knows that name.
func (d *Dir) createUnlinked() (*os.File, error) {
	name, err := uuids.Random()
	if err != nil {
		return nil, err
	}
	f, err := d.Create(name.String())
	if err != nil {
		return nil, err
	}
	if err := d.Remove(name.String()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
