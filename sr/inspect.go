package sr

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/source"
)

// Inspect opens the SR in a directory to look at it, attached or not. It writes
// nothing, and what is missing or damaged is for package check to tell: directories that
// are not there are nil, and the Meta of a marker that cannot be read is empty.
// ErrSRNotFound if there is neither a marker nor what is left of one.
func Inspect(path string) (_ *SR, err error) {
	if path, err = layout.CleanPath(path); err != nil {
		return nil, err
	}
	s := &SR{Path: path, Meta: new(layout.Meta)}
	if s.Root, err = source.OpenPath(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	m, err := layout.ReadMeta(s.Root)
	if errors.Is(err, os.ErrNotExist) {
		var there bool
		if there, err = s.Root.Exists(layout.TombstoneFile); err == nil && !there {
			err = s.nothing()
		}
		if err != nil {
			return nil, err
		}
		m, err = layout.ReadDestroyed(s.Root)
	}
	switch {
	case err == nil && m != nil:
		s.Meta = m
	case fault.Classify(err) == nil && err != nil:
		return nil, err // it could not be read at all
	}
	return s, s.openControl()
}

// nothing says what a directory without a marker may be.
func (s *SR) nothing() error {
	there, err := s.Root.Exists(layout.ControlDir)
	if err != nil {
		return err
	}
	if there {
		return fault.Errorf(fault.ErrSRNotFound, s.Path, "%s holds no SR, but an SR's control directory: its creation was interrupted, then repeat it; or %s was lost, then restore it", s.Path, layout.MarkerFile)
	}
	return fault.Hint(fault.Errorf(fault.ErrSRNotFound, s.Path, "%s holds no SR", s.Path),
		"is its filesystem mounted?")
}

// openControl opens what there is of the control directory.
func (s *SR) openControl() (err error) {
	if s.Control, err = openPart(s.Root, layout.ControlDir); err != nil || s.Control == nil {
		return err
	}
	for name, dir := range s.Subdirs() {
		if *dir, err = openPart(s.Control, name); err != nil {
			return err
		}
	}
	return nil
}

// openPart opens a subdirectory: nil if there is none.
func openPart(d *dirfs.Dir, name string) (*dirfs.Dir, error) {
	sub, err := d.Sub(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	return sub, err
}
