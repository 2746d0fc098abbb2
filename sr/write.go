package sr

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
)

// Replace durably gives the file name in dst the contents data, in pieces, old or new and
// nothing between: written to staging, fsynced, put in the old one's place,
// directory fsynced. On error the old contents stand, also when the last fsync
// fails. The caller holds the lock that covers name.
func (s *SR) Replace(dst *dirfs.Dir, name string, data ...[]byte) error {
	temp := name + ".new"
	if err := s.Staging.Remove(temp); err != nil {
		return err
	}
	if err := s.Staging.WriteNew(temp, data...); err != nil {
		return err
	}
	return s.Commit(temp, dst, name)
}

// Commit puts the staged and fsynced file temp in the place of name in dst and
// makes that durable. On error name is as before. What name held until then, or
// temp on error, is removed.
func (s *SR) Commit(temp string, dst *dirfs.Dir, name string) error {
	return s.CommitAnd(temp, dst, name, func() (func() error, error) { return func() error { return nil }, nil })
}

// CommitAnd is Commit of something together with something else in dst, which and does,
// and whose undo takes it back. If a crash parts the two, it is and that is missing.
func (s *SR) CommitAnd(temp string, dst *dirfs.Dir, name string, and func() (undo func() error, err error)) (err error) {
	undone := error(nil)
	defer func() {
		// If undo failed, what temp holds now is the only copy of the old contents.
		if undone == nil {
			s.Staging.Remove(temp)
		}
	}()
	undo := func() error { return s.Staging.Swap(temp, dst, name) }
	err = undo()
	switch {
	case errors.Is(err, os.ErrNotExist): // name is new
		err = s.Staging.Rename(temp, dst, name)
		undo = func() error { return dst.Rename(name, s.Staging, temp) }
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		// No RENAME_EXCHANGE here (NFS, OCFS2): the old contents go with the rename.
		err = s.Staging.Rename(temp, dst, name)
		undo = func() error { return nil }
	}
	if err != nil {
		return err
	}
	undoAnd, err := and()
	if err != nil {
		undone = undo()
		return errors.Join(err, undone)
	}
	if err := dst.Sync(); err != nil {
		if undone = undoAnd(); undone == nil {
			undone = undo()
		}
		return errors.Join(err, undone)
	}
	return nil
}
