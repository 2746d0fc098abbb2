package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/source"
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
		return fault.Errorf(fault.ErrUnavailable, s.Path, "SR %s is on %s %s, but it was made on %s %s: mount that filesystem at %s; if the SR was moved here on purpose, detach it and run: srctl rehome %s",
			s.Path, fs.Type, fs.UUID, m.Filesystem.Type, m.Filesystem.UUID, s.Path, s.Path)
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
		return fault.Errorf(fault.ErrNotAttached, a.Handle(), "SR %s is not at %s: %s: attach the SR again, which mounts its filesystem, or detach it", a.UUID, a.Path, why)
	}
	return fault.Errorf(fault.ErrNotAttached, a.Handle(), "SR %s is not at %s: %s: mount its filesystem there, or detach the SR", a.UUID, a.Path, why)
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

// LockVolume locks a volume that exists. The SR must be open Shared or Exclusive.
// Lock several volumes in the order of their keys. The error is ErrVolumeNotFound
// if there is no such volume.
func (s *SR) LockVolume(key Key, mode dirfs.LockMode) (*dirfs.Lock, error) {
	if err := s.mustExist(key); err != nil {
		return nil, err
	}
	lock, err := s.Locks.LockFile(string(key), "volume "+string(key), mode, false)
	if fault.Classify(err) == fault.ErrNoSpace || fault.Classify(err) == fault.ErrReadOnly {
		// No room for a lock file, and a full SR must still be able to destroy. The
		// SR's own lock, held alone, excludes every other call as well.
		return nil, s.alone(key)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.revalidate(), s.mustExist(key)); err != nil {
		if errors.Is(err, fault.ErrVolumeNotFound) {
			lock.Discard() // made for nothing; keys do not come back
		} else {
			lock.Unlock()
		}
		return nil, err
	}
	return lock, nil
}

// LockLeases locks the leases of all volumes for a change of one, which is short.
func (s *SR) LockLeases() (*dirfs.Lock, error) {
	lock, err := s.Control.LockFile("leases.lock", "the leases of SR "+s.Path, dirfs.Exclusive, false)
	if fault.Classify(err) == fault.ErrReadOnly || fault.Classify(err) == fault.ErrNoSpace && !s.Meta.Filesystem.Clustered() {
		return nil, nil // nobody can change one, or nobody else would
	}
	return s.fresh(lock, err)
}

// fresh is a lock after which this host believes nothing that it remembers of the SR.
func (s *SR) fresh(lock *dirfs.Lock, err error) (*dirfs.Lock, error) {
	if err == nil {
		err = s.revalidate()
	}
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	return lock, nil
}

// LockCBT locks what all volumes whose data was destroyed know of it: they depend on
// each other. It is taken before the lock of a volume. With try it is had at once, or
// the error is ErrBusy.
func (s *SR) LockCBT(mode dirfs.LockMode, try bool) (*dirfs.Lock, error) {
	return s.fresh(s.Control.LockFile("cbt.lock", "the changed blocks of SR "+s.Path, mode, try))
}

// PendingCBT ends the name of a file in CBT some of whose blocks may not have been
// given back yet.
const PendingCBT = ".todo"

// RemoveCBT removes what is kept in CBT of a volume.
func (s *SR) RemoveCBT(key Key) error {
	return errors.Join(s.CBT.Remove(string(key)), s.CBT.Remove(string(key)+PendingCBT))
}

// LockNew locks the key of a volume that is about to be made, against recovery.
func (s *SR) LockNew(key Key) (*dirfs.Lock, error) {
	return s.Locks.LockFile(string(key), "volume "+string(key), dirfs.Exclusive, false)
}

// alone makes the SR's lock exclusive. flock(2) gives up the one lock before it
// takes the other: what was true before must be asked again.
func (s *SR) alone(key Key) error {
	err := dirfs.Flock(s.Lock.File(), dirfs.Exclusive, time.Now().Add(dirfs.LockTimeout), false)
	if err != nil {
		return dirfs.LockError(s.Lock.File(), "SR "+s.Path, err)
	}
	same, err := s.Control.SameFile("lock", s.Lock.File())
	if err != nil {
		return err
	}
	if !same {
		return gone(attachmentOf(s.Meta, s.Path), "it was destroyed meanwhile")
	}
	if err := s.revalidate(); err != nil {
		return err
	}
	if _, err := s.verify(attachmentOf(s.Meta, s.Path)); err != nil {
		return err
	}
	return s.mustExist(key)
}

func (s *SR) mustExist(key Key) error {
	err := s.Root.RetryReplaced(Data(key), func() error {
		_, err := s.Root.Stat(Record(key))
		return err
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return NoVolume(string(key), s.Path)
	case errors.Is(err, fault.ErrDamaged):
		return nil // it is there
	}
	return err
}

// NoVolume is the error for a key that names nothing in the SR at path.
func NoVolume(key, path string) error {
	return fault.Errorf(fault.ErrVolumeNotFound, key, "volume %s: no such volume in SR %s", key, path)
}

// Data is the name of a volume's data file, in Root and in Staging.
func Data(key Key) string { return string(key) }

// Record is the name of a volume's record there.
func Record(key Key) string { return string(key) + ".inf" }

// StagedPath is where a staged file is, below the SR's directory.
func StagedPath(name string) string { return layout.ControlDir + "/staging/" + name }

// Detach forgets the SR on this host, and unmounts what Attach has mounted for it: if
// that is in use, the SR stays attached. Detaching what is not attached, or is gone,
// succeeds.
func Detach(handle string) error {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return err
	}
	stay := func() {}
	if a, err := attached.Find(handle); err == nil {
		stay = leaving(a)
	}
	if path != mount.Point(uuid) {
		return removeAttachment(handle, uuid)
	}
	return source.WithNote(uuid, func(notes *dirfs.Dir) error {
		if err := source.Unmount(notes, uuid); err != nil {
			stay()
			return err
		}
		return removeAttachment(handle, uuid)
	})
}

func removeAttachment(handle, uuid string) error {
	if _, err := attached.Find(handle); errors.Is(err, fault.ErrNotAttached) {
		return nil
	}
	return attached.With(uuid, func(dir *dirfs.Dir) error {
		removeSequenceNote(uuid)
		return errors.Join(removeKeysNote(dir, uuid), dir.Remove(uuid+".json"))
	})
}

// SetName renames an attached SR: its sr.json, and what this host has noted of it. The
// name is UTF-8 of at most TextLimit bytes, else it is ErrInvalid.
func SetName(handle, name string) error {
	return change(handle, "new_name", name, func(m *layout.Meta) { m.Name = name })
}

// SetDescription is SetName for the description.
func SetDescription(handle, description string) error {
	return change(handle, "new_description", description, func(m *layout.Meta) { m.Description = description })
}

func change(handle, arg, text string, edit func(*layout.Meta)) error {
	if err := source.CheckText(arg, text); err != nil {
		return err
	}
	s, err := Open(handle, dirfs.Exclusive)
	if err != nil {
		return err
	}
	edit(s.Meta)
	err = s.writeMeta(s.Meta)
	s.Close() // SR.attach takes the locks in the order: attachment, SR
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.Root.Join(layout.MarkerFile), err)
	}
	// What is noted of the SR on this host only matters when the SR is gone.
	now := attachmentOf(s.Meta, s.Path)
	if err := now.Edit(func(a *attached.SR) { a.Name, a.Description = now.Name, now.Description }); err != nil {
		slog.Warn("the name noted for when the SR is unreachable is out of date", "sr", handle, "err", err)
	}
	return nil
}

// writeMeta replaces the marker. The caller holds the SR's lock exclusively.
func (s *SR) writeMeta(m *layout.Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return s.Replace(s.Root, layout.MarkerFile, data)
}

func attachmentOf(m *layout.Meta, path string) attached.SR {
	return attached.SR{Path: path, UUID: m.UUID, Name: m.Name, Description: m.Description}
}
