package sr

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
)

// SR is an open, attached storage repository.
type SR struct {
	Path    string // absolute, as configured
	Meta    *layout.Meta
	Root    *dirfs.Dir // the SR's directory: <uuid> and <uuid>.inf
	Staging *dirfs.Dir // what is not yet, or no longer, a volume
	Leases  *dirfs.Dir // who has a volume active
	Locks   *dirfs.Dir // one lock file per volume
	CBT     *dirfs.Dir // what volumes whose data was destroyed know of it

	Control        *dirfs.Dir
	Lock           *dirfs.Lock
	ownsFilesystem bool // the filesystem was made for the SR, and goes with it
}

// Open opens the attached SR that handle names and locks it as told. The error
// is ErrNotAttached if it is not attached, or if what is at its path is not it.
func Open(handle string, mode dirfs.LockMode) (*SR, error) {
	a, err := attached.Find(handle)
	if err != nil {
		return nil, err
	}
	return open(a, mode)
}

func open(a attached.SR, mode dirfs.LockMode) (*SR, error) {
	// Look twice: before the lock, so that nothing is written to a directory that
	// is not ours; and under it, because the SR may have changed while we waited.
	s, err := verify(a)
	if err != nil || mode == dirfs.Unlocked {
		return s, err
	}
	s.Lock, err = s.Control.LockFile("lock", "SR "+a.Path, mode, false)
	if err == nil {
		err = s.revalidate()
	}
	if err == nil {
		if s.Meta, err = s.verify(a); err == nil {
			return s, nil
		}
	}
	s.Close()
	if errors.Is(err, os.ErrNotExist) {
		err = gone(a, "it was destroyed meanwhile")
	}
	return nil, err
}

// verify opens the SR's directories if they are those of the SR that was attached.
func verify(a attached.SR) (_ *SR, err error) {
	s := &SR{Path: a.Path}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.Root, err = dirfs.OpenDir(a.Path); err != nil {
		return nil, absent(a, err)
	}
	if s.Meta, err = s.verify(a); err != nil {
		return nil, err
	}
	if s.Control, err = s.Root.Sub(layout.ControlDir); err != nil {
		return nil, absent(a, err)
	}
	for name, dir := range s.Subdirs() {
		if *dir, err = s.Control.Sub(name); err != nil {
			return nil, absent(a, err)
		}
	}
	return s, nil
}

// Subdirs are the parts of the control directory, by name.
func (s *SR) Subdirs() map[string]**dirfs.Dir {
	return map[string]**dirfs.Dir{"staging": &s.Staging, "leases": &s.Leases, "locks": &s.Locks, "cbt": &s.CBT}
}

// verify reads the marker and compares identities.
func (s *SR) verify(a attached.SR) (*layout.Meta, error) {
	m, err := layout.ReadMeta(s.Root)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, gone(a, "there is no "+layout.MarkerFile+" in it")
	case err != nil:
		return nil, err
	case m.UUID != a.UUID:
		return nil, gone(a, "another SR, "+m.UUID+", is there")
	}
	switch err := s.SameFilesystem(m); {
	case errors.Is(err, fault.ErrUnavailable):
		return nil, fault.Errorf(fault.ErrNotAttached, a.Handle(), "%v", err)
	case err != nil:
		return nil, fmt.Errorf("SR %s: %w", a.Path, err)
	}
	return m, nil
}

// SameFilesystem refuses, with ErrUnavailable, if the SR is on another filesystem than it was made on.
func (s *SR) SameFilesystem(m *layout.Meta) error {
	fs, err := filesystem.Of(s.Root)
	if err != nil {
		return err
	}
	if fs != m.Filesystem {
		if err := fs.Sole(s.Path); err != nil {
			return err
		}
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, s.Path, "SR %s is on %s %s, but it was made on %s %s", s.Path, fs.Type, fs.UUID, m.Filesystem.Type, m.Filesystem.UUID),
			"mount that filesystem at %s; if the SR was moved here on purpose, detach it and run: srctl rehome %s", s.Path, s.Path)
	}
	return nil
}

// absent turns what says that a directory is not there into ErrNotAttached. Any
// other failure says nothing about that.
func absent(a attached.SR, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return gone(a, err.Error())
	}
	return fmt.Errorf("SR %s: %w", a.Path, err)
}

func gone(a attached.SR, why string) error {
	if a.Path == mount.Point(a.UUID) {
		return fault.Hint(fault.Errorf(fault.ErrNotAttached, a.Handle(), "SR %s is not at %s: %s", a.UUID, a.Path, why),
			"attach the SR again, which mounts its filesystem, or detach it")
	}
	return fault.Hint(fault.Errorf(fault.ErrNotAttached, a.Handle(), "SR %s is not at %s: %s", a.UUID, a.Path, why),
		"mount its filesystem there, or detach the SR")
}

// Close releases the locks and the directories.
func (s *SR) Close() {
	s.Lock.Unlock()
	s.closeControl()
	s.Root.Close()
}

func (s *SR) closeControl() {
	for _, dir := range s.Subdirs() {
		(*dir).Close()
	}
	s.Control.Close()
}

// Handle is the SR's handle.
func (s *SR) Handle() string { return layout.Handle(s.Path, s.Meta.UUID) }
