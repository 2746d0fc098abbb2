package dirfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// Stat describes the regular file name, refusing what Open refuses.
func (d *Dir) Stat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := d.shared.current(d, func() error {
		d.shared.renew(d, name)
		return sys.Do(func() error { return unix.Fstatat(d.Fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	})
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return &st, d.acceptable(name, &st)
}

// Exists says whether the name is taken, by whatever kind of file.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.Stat(name)
	switch {
	case err == nil, errors.Is(err, fault.ErrDamaged):
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	}
	return false, err
}

// IsDir says whether name is a directory, without following links. What is not there is none.
func (d *Dir) IsDir(name string) (bool, error) {
	var st unix.Stat_t
	err := sys.Do(func() error { return unix.Fstatat(d.Fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}
