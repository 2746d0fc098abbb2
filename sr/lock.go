package sr

import (
	"errors"
	"os"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
)

// LockVolume locks a volume that exists. The SR must be open Shared or Exclusive.
// Lock several volumes in the order of their keys. The error is ErrVolumeNotFound
// if there is no such volume.
func (s *SR) LockVolume(key Key, mode dirfs.LockMode) (*dirfs.Lock, error) {
	return s.lockVolume(key, mode, false)
}

// TryVolume is LockVolume for who does not wait, as whoever has another volume locked already: ErrBusy if
// somebody else has it, who may wait for that one.
func (s *SR) TryVolume(key Key, mode dirfs.LockMode) (*dirfs.Lock, error) {
	return s.lockVolume(key, mode, true)
}

func (s *SR) lockVolume(key Key, mode dirfs.LockMode, try bool) (*dirfs.Lock, error) {
	if err := s.mustExist(key); err != nil {
		return nil, err
	}
	lock, err := s.Locks.LockFile(string(key), "volume "+string(key), mode, try)
	if fault.Classify(err) == fault.ErrNoSpace || fault.Classify(err) == fault.ErrReadOnly {
		if try {
			return nil, fault.Errorf(fault.ErrBusy, string(key), "volume %s: there is no room for its lock: %v", key, err)
		}
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

// LockNew locks the key of a volume that is about to be made, against recovery.
func (s *SR) LockNew(key Key) (*dirfs.Lock, error) {
	return s.Locks.LockFile(string(key), "volume "+string(key), dirfs.Exclusive, false)
}

// LockLeases locks the leases of all volumes for a change of one, which is short.
func (s *SR) LockLeases() (*dirfs.Lock, error) {
	lock, err := s.Control.LockFile(layout.LeasesLock, "the leases of SR "+s.Path, dirfs.Exclusive, false)
	if fault.Classify(err) == fault.ErrReadOnly || fault.Classify(err) == fault.ErrNoSpace && !s.Meta.Filesystem.Clustered() {
		return nil, nil // nobody can change one, or nobody else would
	}
	return s.fresh(lock, err)
}

// LockCBT locks what all volumes whose data was destroyed know of it: they depend on
// each other. It is taken before the lock of a volume. With try it is had at once, or
// the error is ErrBusy.
func (s *SR) LockCBT(mode dirfs.LockMode, try bool) (*dirfs.Lock, error) {
	return s.fresh(s.Control.LockFile(layout.CBTLock, "the changed blocks of SR "+s.Path, mode, try))
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

// LockBoth locks a source as told and a target Exclusive, in the order of their keys as
// everybody does.
func (s *SR) LockBoth(from, to Key, mode dirfs.LockMode) (source, target *dirfs.Lock, err error) {
	if from < to {
		source, err = s.LockVolume(from, mode)
	}
	if err == nil {
		target, err = s.LockVolume(to, dirfs.Exclusive)
	}
	if err == nil && from > to {
		source, err = s.LockVolume(from, mode)
	}
	if err != nil {
		source.Unlock()
		target.Unlock()
		return nil, nil, err
	}
	return source, target, nil
}

// tryLocked runs do under the volume's lock if nobody else has it now.
func (s *SR) tryLocked(key Key, do func() error) error {
	lock, err := s.Locks.LockFile(string(key), "volume "+string(key), dirfs.Exclusive, true)
	if errors.Is(err, fault.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := s.revalidate(); err != nil {
		return err
	}
	return do()
}
