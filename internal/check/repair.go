package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Repair repairs what Examine finds and calls Repairable, so far as it is no business
// of recovery's (sr.Repair, datapath.Repair): modes, the record's copy of the size,
// leases of volumes that are no more. s is open Shared. What it cannot repair does
// not keep it from the rest.
func Repair(s *sr.SR) error {
	report, err := ExamineVolumes(context.Background(), s, func(int64, int64) {})
	if err != nil {
		return err
	}
	var failed error
	for _, p := range append(report.Problems, report.Notes...) {
		if !p.Repairable {
			continue
		}
		if err := repairOne(s, p); err != nil && !errors.Is(err, fault.ErrVolumeNotFound) {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(failed, s.Sync())
}

func repairOne(s *sr.SR, p Problem) error {
	switch p.Kind {
	case WrongMode:
		if p.Key == "" || strings.Contains(p.Name, "/") {
			return s.MakePrivate(p.Name) // of the control directory
		}
		return withRecord(s, p.Key, func(*volume.Record) error { return s.MakePrivate(p.Name) })
	case WrongSize:
		return withRecord(s, p.Key, func(r *volume.Record) error { return r.Refresh(s, p.Key) })
	case StaleLease:
		return removeLease(s, p.Key)
	}
	return nil
}

// withRecord runs do with the volume locked, if its record is of our making.
func withRecord(s *sr.SR, key sr.Key, do func(*volume.Record) error) error {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	if err != nil || r.Format < 1 {
		return err
	}
	return do(r)
}

// removeLease removes the lease of a volume that is no more.
func removeLease(s *sr.SR, key sr.Key) error {
	lock, err := s.LockNew(key)
	if err != nil {
		return err
	}
	for _, name := range []string{sr.Record(key), sr.Data(key)} {
		if there, err := s.Root.Exists(name); err != nil || there {
			lock.Unlock()
			return err
		}
	}
	defer lock.Discard()
	leases, err := s.LockLeases()
	if err != nil {
		return err
	}
	defer leases.Unlock()
	return s.Leases.Remove(string(key))
}
