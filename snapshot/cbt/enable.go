package cbt

import (
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// EnableCBT lets changed blocks be asked for between the snapshots that will be taken
// of a volume. It costs nothing: what has changed is where two volumes do not share.
func EnableCBT(handle string, key sr.Key) error { return setCBT(handle, key, true) }

// DisableCBT ends that for the snapshots to come. Those there are keep it.
func DisableCBT(handle string, key sr.Key) error { return setCBT(handle, key, false) }

func setCBT(handle string, key sr.Key, on bool) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if on {
		if err := s.MustMapExtents(); err != nil {
			return err
		}
	}
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	switch {
	case err != nil:
		return err
	case r.CBT == on:
		return nil
	case !r.ReadWrite:
		return fault.Errorf(fault.ErrInvalid, string(key), "volume %s is a snapshot and keeps the changed block tracking that its disk had when it was taken", key)
	}
	return r.SetCBT(s, key, on)
}
