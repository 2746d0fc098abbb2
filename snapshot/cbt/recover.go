package cbt

import (
	"errors"
	"slices"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Recover finishes or takes back what interrupted calls left of destroyed data. What
// others are at it leaves to them.
func Recover(handle string) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	return RecoverAll(s)
}

// RecoverAll finishes what interrupted calls left undone in what is kept of destroyed volumes.
func RecoverAll(s *sr.SR) error {
	keys, err := DestroyedVolumes(s)
	if err != nil || len(keys) == 0 {
		return err
	}
	lock, err := s.LockCBT(dirfs.Exclusive, true)
	if errors.Is(err, fault.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	var pending []sr.Key
	for _, key := range keys {
		todo, e := recoverFreed(s, key)
		if todo {
			pending = append(pending, key)
		}
		if !errors.Is(e, fault.ErrVolumeNotFound) {
			err = errors.Join(err, e)
		}
	}
	for len(pending) > 0 {
		family, e := destroyedKin(s, pending[0])
		err = errors.Join(err, e, trimAll(s, family))
		pending = slices.DeleteFunc(pending[1:], func(k sr.Key) bool { return slices.Contains(family, k) })
	}
	return err
}

// recoverFreed removes what is kept of a volume that has its data, or is no more. todo
// says that the volume is to be trimmed.
func recoverFreed(s *sr.SR, key sr.Key) (todo bool, err error) {
	r, err := volume.LoadForChange(s, key)
	switch {
	case errors.Is(err, fault.ErrVolumeNotFound):
		return false, s.RemoveCBT(key)
	case err != nil:
		return false, err
	case r.DataDestroyed:
		return s.CBT.Exists(string(key) + sr.PendingCBT)
	}
	// It ended before its commit.
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	if r, err = volume.LoadForChange(s, key); err != nil || r.DataDestroyed {
		return false, err
	}
	return false, s.CBT.Remove(string(key) + sr.PendingCBT)
}
