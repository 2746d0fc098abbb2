package cbt

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// DestroyData ends a snapshot's data: its space is given back, except for what other
// volumes share. What has changed between it and any other volume can be asked for as
// before.
//
// What its file keeps is what others share: where they do not any more, they have
// changed, and the block is freed at the next occasion (Trim). That a block is freed is
// noted before it is.
//
// Order: what will be freed noted and durable, and that relatives may lose more; the
// record says that there is no data (the commit); blocks given back; that noted.
func DestroyData(handle string, key sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return err
	}
	cbt, err := s.LockCBT(dirfs.Exclusive, false)
	if err != nil {
		return err
	}
	defer cbt.Unlock()
	if err := destroyData(s, key); err != nil {
		return err
	}
	family, err := destroyedKin(s, key)
	if err = errors.Join(err, trimAll(s, family)); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "key", key, "err", err)
	}
	return nil
}

// destroyData is all but giving the blocks back.
func destroyData(s *sr.SR, key sr.Key) error {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	switch {
	case err != nil:
		return err
	case r.DataDestroyed:
		return nil // the second attempt: what the first could not give back remains to be done
	case r.ReadWrite:
		return fault.Errorf(fault.ErrInvalid, string(key), "volume %s is no snapshot: only a snapshot's data can be destroyed alone", key)
	case !r.CBT:
		return fault.Hint(fault.Errorf(fault.ErrNoCBT, string(key), "volume %s was taken without changed block tracking, so there is nothing to keep", key),
			"destroy the volume itself")
	}
	if err := lease.CheckIdle(s, key); err != nil {
		return err
	}
	if err := volume.Mutable(s, key); err != nil {
		return err
	}
	if err := s.CBT.Remove(string(key) + sr.PendingCBT); err != nil { // of an attempt that ended before its commit
		return err
	}
	there, err := s.CBT.Exists(string(key))
	if err == nil && there {
		err = fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its record says that it has its data, %s/.reflinksr/cbt/%s that this was destroyed", key, s.Path, key),
			"restore the newer record, or destroy the volume")
	}
	if err != nil {
		return err
	}
	relatives, err := destroyedKin(s, key)
	if err != nil {
		return err
	}
	d, err := openDisk(s, key)
	if err != nil {
		return err
	}
	defer d.close()
	d.freed = newFreed(key)
	p, err := plan(d, nil)
	if err != nil {
		return err
	}
	withdraw, err := announce(s, relatives)
	if err == nil {
		err = p.freed.save(s)
	}
	if err == nil {
		err = r.DestroyData(s, key)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("volume %s: destroying its data: %w", key, err)
	// Where a record cannot be put back, the new one may stand all the same. Then so does
	// what was noted, and recovery gives the blocks back.
	if r, e := volume.LoadForChange(s, key); e != nil || r.DataDestroyed {
		return errors.Join(err, e)
	}
	withdraw()
	return errors.Join(err, s.RemoveCBT(key))
}

// announce notes that volumes whose data was destroyed are to be trimmed, durably: if
// whoever is about to let them lose blocks does not come to that, recovery does it.
// withdraw is for when nothing comes of it. The caller holds SR.LockCBT.
func announce(s *sr.SR, family []sr.Key) (withdraw func(), err error) {
	var noted []sr.Key
	withdraw = func() {
		for _, k := range noted {
			noteGivenBack(s, k) // else recovery finds nothing to do
		}
	}
	for _, k := range family {
		there, err := s.CBT.Exists(string(k) + sr.PendingCBT)
		if err == nil && !there {
			err = s.CBT.Rename(string(k), s.CBT, string(k)+sr.PendingCBT)
			if errors.Is(err, os.ErrNotExist) { // it is damaged
				continue
			}
			noted = append(noted, k)
		}
		if err != nil {
			withdraw()
			return func() {}, err
		}
	}
	if len(noted) > 0 {
		err = s.CBT.Sync()
	}
	return withdraw, err
}
