package sr

import (
	"errors"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/source"
)

// Relocate makes an SR that was moved or restored to another filesystem at home
// there: the marker names the filesystem it is on now. For the operator only, who
// has made sure that the directory is the SR and not a copy beside it.
func Relocate(path string) (from, to filesystem.Identity, err error) {
	path, err = layout.CleanPath(path)
	if err != nil {
		return from, to, err
	}
	root, err := source.OpenPath(path)
	if err != nil {
		return from, to, err
	}
	defer root.Close()
	m, err := layout.ReadMeta(root)
	if err != nil {
		return from, to, err
	}
	from = m.Filesystem
	if to, err = filesystem.Of(root); err != nil || from == to {
		return from, to, err
	}
	if err := to.Sole(path); err != nil {
		return from, to, err
	}
	if err := filesystem.Probe(root, m.Options.Attributes()); err != nil {
		return from, to, err
	}
	handle, err := attached.At(path)
	if err != nil && !errors.Is(err, fault.ErrNotAttached) {
		return from, to, err
	}
	if err == nil && strings.HasSuffix(handle, m.UUID) {
		return from, to, fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "SR %s is attached", path),
			"detach it first")
	}
	if err := makeMissing(root); err != nil {
		return from, to, err
	}
	s := &SR{Path: path, Root: root, Meta: m}
	if s.Control, err = root.Sub(layout.ControlDir); err != nil {
		return from, to, err
	}
	defer s.Control.Close()
	lock, err := s.Control.LockFile("lock", "SR "+path, dirfs.Exclusive, false)
	if err != nil {
		return from, to, err
	}
	defer lock.Unlock()
	if s.Staging, err = s.Control.Sub("staging"); err != nil {
		return from, to, err
	}
	defer s.Staging.Close()
	m.Filesystem = to
	return from, to, s.writeMeta(m)
}
