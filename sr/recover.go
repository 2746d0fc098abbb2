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
func (s *SR) finishOrUndo(key Key) error {
	w, err := s.whereabouts(key)
	if err != nil {
		return err
	}
	what := w.remedy()
	if what.place {
		if err := s.Staging.Rename(Data(key), s.Root, Data(key)); err != nil {
			return err
		}
		if err := s.Root.Sync(); err != nil {
			return err
		}
	}
	if what.erase {
		if err := errors.Join(s.Root.RemoveFile(Data(key)), s.Leases.Remove(string(key))); err != nil {
			return err
		}
		// The staged record is what says that the data in root was ours: it goes last.
		if err := s.Root.Sync(); err != nil {
			return err
		}
	}
	if what.forget {
		// Of a volume that is there, package datapath knows whether it has a device.
		if err := errors.Join(s.removeNonpersistent(key), s.Staging.Remove(Renewed(key)), s.Staging.Remove(Sectors(key)), s.RemoveCBT(key)); err != nil {
			return err
		}
	}
	kinds := []string{"", ".revert", ".composed", ".new", PendingCBT + ".new", base + ".new", ".inf.new", ".inf"}
	if received, err := s.IsReceived(key); err == nil && !received {
		kinds = append(kinds, sectorsKind)
	}
	for _, kind := range kinds {
		if err := s.Staging.Remove(string(key) + kind); err != nil {
			return err
		}
	}
	return nil
}

// whereabouts is where the two files of a volume are. That of data is only known where the
// record is in root.
type whereabouts struct {
	record, data             bool // in root
	stagedRecord, stagedData bool // in staging
}

func (s *SR) whereabouts(key Key) (w whereabouts, err error) {
	if w.record, err = s.Root.Exists(Record(key)); err != nil {
		return w, err
	}
	if w.stagedRecord, err = s.Staging.Exists(Record(key)); err != nil || !w.record {
		return w, err
	}
	if w.data, err = s.Root.Exists(Data(key)); err != nil {
		return w, err
	}
	w.stagedData, err = s.Staging.Exists(Data(key))
	return w, err
}

// remedy is what finishes or takes back what was interrupted. All that is in staging goes
// in the end.
type remedy struct {
	place  bool // the staged data belongs in root
	erase  bool // the data in root belongs to no volume, and the lease neither
	forget bool // there is no volume whose nonpersistent disks and changed blocks these could be
}

// remedy decides by where the record is.
//
//	in root             the volume is there. Staged data without data in root
//	                    is a creation whose last step was lost: put it there.
//	in staging          a creation before its commit, or a destruction after
//	                    it: either way the volume is not there.
//	nowhere             what is in staging never became visible; data in root is somebody's.
func (w whereabouts) remedy() remedy {
	return remedy{
		place:  w.record && w.stagedData && !w.data,
		erase:  !w.record && w.stagedRecord,
		forget: !w.record,
	}
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
