package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// lockName locks an open file against other processes of ours, and makes sure that it
// still has its name, and no other: what is written to it would be written to that as well.
func lockName(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return fmt.Errorf("%s is being written by another process", path)
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	open, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(open, named) {
		return fmt.Errorf("%s was replaced by another process", path)
	}
	st, err := sys.Fstat(f)
	switch {
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file: move it away", path)
	case st.Nlink > 1:
		return fmt.Errorf("%s has %d names (hard links), and what is written to it would be written to the others as well: give another name, or copy it", path, st.Nlink)
	}
	return nil
}

// rename gives a file a name that nobody has, durably.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // this filesystem, or this kernel, has no such rename
		if _, err = os.Lstat(to); err == nil {
			err = unix.EEXIST
		} else if errors.Is(err, os.ErrNotExist) {
			err = os.Rename(from, to)
		}
	}
	if err == unix.EEXIST {
		return fmt.Errorf("%s was made meanwhile: move it away, and rename %s to it, which is whole", to, from)
	}
	if err != nil {
		return fmt.Errorf("renaming %s to %s: %w: it is whole, and only lacks its name", from, to, err)
	}
	return syncDirectory(filepath.Dir(to))
}

// replace gives a file new contents, durably: after a power cut it has the former or these.
func replace(path string, contents func(io.Writer) error) error {
	beside := path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(beside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(contents(f), f.Sync(), f.Close()); err != nil {
		os.Remove(beside)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(beside, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes what has happened to the names in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
