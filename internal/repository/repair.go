package repository

import (
	"context"
	"errors"
	"slices"

	"reflinksr/datapath"
	"reflinksr/internal/check"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/snapshot"
	"reflinksr/sr"
)

// Repair repairs what a check has found and can be repaired, and checks again. failed is why
// something could not be; err, why nobody can tell what is left.
func Repair(ctx context.Context, before Report) (after Report, failed, err error) {
	snapshot.Sweep()
	needed := func(p Problem) bool { return p.Repairable }
	if !slices.ContainsFunc(before.Problems, needed) && !slices.ContainsFunc(before.Notes, needed) {
		return before, nil, nil
	}
	if err := context.Cause(ctx); err != nil {
		return before, nil, err
	}
	failed = repair(before.Path, before.UUID)
	after, err = Check(ctx, before.Path, func(int64, int64) {})
	if errors.Is(err, fault.ErrSRNotFound) {
		after.UUID, err = before.UUID, nil // it had been destroyed, and now it is erased
	}
	after.Repaired = repaired(before, after)
	return after, failed, err
}

// repaired is what could be repaired and is there no more.
func repaired(before, after Report) (gone []Problem) {
	left := slices.Concat(after.Problems, after.Notes)
	for _, p := range slices.Concat(before.Problems, before.Notes) {
		still := func(q Problem) bool { return q.Kind == p.Kind && q.Name == p.Name }
		if p.Repairable && !slices.ContainsFunc(left, still) {
			gone = append(gone, p)
		}
	}
	return gone
}

// repair repairs what is provably ours: as Attach does, and what that leaves.
func repair(path, uuid string) error {
	if err := sr.Repair(path); err != nil {
		return err
	}
	s, err := sr.OpenAt(path, uuid, dirfs.Shared)
	if errors.Is(err, fault.ErrNotAttached) {
		return nil // a destroyed SR, which is erased now
	}
	if err != nil {
		return err
	}
	err = check.Repair(s)
	s.Close() // datapath takes the locks in the order: note, SR
	return errors.Join(err, datapath.Repair(path, uuid), check.RepairDestroyed(path, uuid))
}
