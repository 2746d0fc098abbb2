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
	"reflinksr/internal/source"
	"reflinksr/internal/sys"
)

// Repair does for the SR in a directory what Attach does to finish what a crash
// left, and attaches nothing. An SR that was destroyed is erased. What it cannot
// lock it leaves to those who have it.
func Repair(path string) error {
	path, err := layout.CleanPath(path)
	if err != nil {
		return err
	}
	root, err := source.OpenPath(path)
	if err != nil {
		return err
	}
	defer root.Close()
	m, err := layout.ReadMeta(root)
	if errors.Is(err, os.ErrNotExist) {
		return finishErase(root, source.Configuration{})
	}
	if err != nil {
		return err
	}
	if err := (&SR{Path: path, Root: root}).SameFilesystem(m); err != nil {
		return err
	}
	if readOnly, remedy, err := filesystem.ReadOnly(root); err != nil || readOnly != "" {
		return errors.Join(err, fault.Hint(fault.Errorf(fault.ErrReadOnly, path, "%s is on a read-only filesystem", path),
			"remount it, then repair (%s: %s)", readOnly, remedy))
	}
	a := attachmentOf(m, path)
	return attached.With(m.UUID, func(*dirfs.Dir) error { return mayAttach(&a, root, m.Options.Attributes()) })
}

// OpenAt is Open for an SR that need not be attached: for repairs.
func OpenAt(path, uuid string, mode dirfs.LockMode) (*SR, error) {
	return open(attached.SR{Path: path, UUID: uuid}, mode)
}

// MakePrivate gives what package check found too open the mode and the owner
// that ours have, durably. name is the Name of the problem.
func (s *SR) MakePrivate(name string) error {
	dir, base, err := s.openNamed(name)
	if err != nil {
		return err
	}
	f, err := dir.Open(base, unix.O_RDONLY)
	if errors.Is(err, fault.ErrDamaged) {
		isDir, e := dir.IsDir(base)
		if e != nil {
			return e
		}
		if isDir {
			sub, e := dir.Sub(base)
			if e != nil {
				return e
			}
			f, err = sub.File(), nil
		}
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := sys.Fstat(f)
	if err != nil {
		return err
	}
	// The owner first: until then the old one could change the mode back.
	if err := sys.Do(func() error { return unix.Fchown(int(f.Fd()), 0, 0) }); err != nil {
		return fmt.Errorf("%s: giving it to root: %w", f.Name(), err)
	}
	if err := sys.Do(func() error { return unix.Fchmod(int(f.Fd()), PrivateMode(st)) }); err != nil {
		return fmt.Errorf("%s: setting its mode: %w", f.Name(), err)
	}
	return f.Sync()
}

// openNamed is the reverse of Relative, for what is ours.
func (s *SR) openNamed(name string) (*dirfs.Dir, string, error) {
	for _, place := range []struct {
		prefix string
		dir    *dirfs.Dir
	}{
		{layout.ControlDir + "/leases/", s.Leases}, {layout.ControlDir + "/locks/", s.Locks}, {layout.ControlDir + "/cbt/", s.CBT}, {layout.ControlDir + "/staging/", s.Staging}, {layout.ControlDir + "/", s.Control}, {"", s.Root},
	} {
		if len(name) > len(place.prefix) && name[:len(place.prefix)] == place.prefix {
			return place.dir, name[len(place.prefix):], nil
		}
	}
	return nil, "", fault.Errorf(fault.ErrInvalid, name, "%q is no file of an SR", name)
}

// Sync makes what was removed durable.
func (s *SR) Sync() error {
	return errors.Join(s.Root.Sync(), s.Staging.Sync(), s.Leases.Sync(), s.Locks.Sync(), s.CBT.Sync())
}

// PrivateMode is the mode that a file or directory of an SR is to have.
func PrivateMode(st *unix.Stat_t) uint32 {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 0o700
	}
	return 0o600
}

// Relative is the name of a file below the SR's directory, for reports.
func (s *SR) Relative(d *dirfs.Dir, name string) string {
	if s.Control != nil && d == s.Control {
		return layout.ControlDir + "/" + name
	}
	for sub, dir := range s.Subdirs() {
		if *dir == d {
			return layout.ControlDir + "/" + sub + "/" + name
		}
	}
	return name
}
