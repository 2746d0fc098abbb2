package sr

import (
	"errors"
	"log/slog"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
)

// Recover finishes or takes back what a crash interrupted. It may run at any time
// beside other calls: it touches what it can lock at once and leaves the rest to
// those who hold it. Only names of our own making in staging are acted upon;
// everything unknown stays where it is.
func (s *SR) Recover() error {
	names, err := s.Staging.Names()
	if err != nil {
		return err
	}
	keys := map[Key]bool{}
	for _, name := range names {
		switch key, _, ok := StagedName(name); {
		case ok:
			keys[key] = true
		case name == layout.MarkerFile+".new":
			// Of a change of the marker that goes on now; Attach removes an old one.
		case dirfs.RemovedOpen(name) && s.Staging.Remote():
		default:
			slog.Warn("unknown file in staging is left alone", "file", s.Staging.Join(name))
		}
	}
	for key := range keys {
		// One volume's trouble is no reason to keep the others from being used.
		if err := s.tryLocked(key, func() error { return s.finishOrUndo(key) }); err != nil {
			slog.Error("an interrupted call could not be settled", "key", key, "err", err)
		}
	}
	return s.sweepLocks()
}

// finishOrUndo brings one volume to its old or its new state. The caller holds its lock.
//
//	record in root                the volume is there. Staged data without data in root
//	                              is a creation whose last step was lost: put it there.
//	record in staging             a creation before its commit, or a destruction after
//	                              it: either way the volume is not there.
//	anything else in staging      never became visible.
func (s *SR) finishOrUndo(key Key) error {
	committed, err := s.Root.Exists(Record(key))
	if err != nil {
		return err
	}
	staged, err := s.Staging.Exists(Record(key))
	if err != nil {
		return err
	}
	if committed {
		data, err := s.Root.Exists(Data(key))
		if err != nil {
			return err
		}
		waiting, err := s.Staging.Exists(Data(key))
		if err != nil {
			return err
		}
		if waiting && !data {
			if err := s.Staging.Rename(Data(key), s.Root, Data(key)); err != nil {
				return err
			}
			if err := s.Root.Sync(); err != nil {
				return err
			}
		}
	} else if staged {
		if err := errors.Join(s.Root.RemoveFile(Data(key)), s.Leases.Remove(string(key))); err != nil {
			return err
		}
		// The staged record is what says that the data in root was ours: it goes last.
		if err := s.Root.Sync(); err != nil {
			return err
		}
	}
	if !committed {
		if err := errors.Join(s.removeNonpersistent(key), s.RemoveCBT(key)); err != nil {
			return err
		}
	}
	for _, kind := range []string{"", ".revert", ".composed", ".new", PendingCBT + ".new", ".inf.new", ".inf"} {
		if err := s.Staging.Remove(string(key) + kind); err != nil {
			return err
		}
	}
	return nil
}

// sweepLocks removes lock files of volumes that are no more.
func (s *SR) sweepLocks() error {
	names, err := s.Locks.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		key, err := ParseKey(name)
		if err != nil {
			continue
		}
		if there, err := s.Root.Exists(Record(key)); err != nil || there {
			continue
		}
		lock, err := s.Locks.LockFile(name, "volume "+name, dirfs.Exclusive, true)
		if err != nil {
			continue
		}
		err = s.revalidate()
		there, e := s.Root.Exists(Record(key))
		if err == nil && e == nil && !there {
			lock.Discard()
		} else {
			lock.Unlock()
		}
	}
	return nil
}
