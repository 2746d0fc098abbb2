package snapshot

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Revert gives the volume to the contents of the volume from. The volume
// keeps its identity: key, name, description, keys. It must not be in use.
//
// Order: if the volume shrinks, its record says so; a clone of the snapshot is
// staged and fsynced, takes the place of the volume's data (the commit), directory
// fsynced; if the volume grows, its record says so.
func Revert(handle string, from, to sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if from == to {
		return fault.Errorf(fault.ErrInvalid, string(to), "volume %s cannot be reverted to itself", to)
	}
	source, target, err := s.LockBoth(from, to, dirfs.Shared)
	if err != nil {
		return err
	}
	defer source.Unlock()
	defer target.Unlock()
	was, err := volume.LoadForChange(s, from)
	if err != nil {
		return err
	}
	r, err := volume.LoadForChange(s, to)
	if err != nil {
		return err
	}
	if err := mayRevert(to, r, from, was); err != nil {
		return err
	}
	if err := errors.Join(lease.CheckIdle(s, to), volume.MustBeWhole(s, to)); err != nil {
		return err
	}
	if err := shrinkRecord(s, from, to, r); err != nil {
		return fmt.Errorf("volume %s: reverting to %s: %w", to, from, err)
	}
	if err := replaceData(s, from, to); err != nil {
		return errors.Join(fmt.Errorf("volume %s: reverting to %s: %w", to, from, err), r.Refresh(s, to))
	}
	if err := r.Refresh(s, to); err != nil {
		slog.Warn("the record's copy of the size is out of date", "key", to, "err", err)
	}
	return nil
}

// mayRevert refuses what no volume with these records can be reverted to, whoever has it.
func mayRevert(to sr.Key, r *volume.Record, from sr.Key, was *volume.Record) error {
	if err := was.MustHaveData(from); err != nil {
		return err
	}
	switch {
	case !r.ReadWrite:
		return fault.Errorf(fault.ErrInvalid, string(to), "volume %s is read-only and keeps its contents", to)
	case r.SectorSize != was.SectorSize:
		return fault.Errorf(fault.ErrInvalid, string(from), "volume %s has sectors of %d bytes, %s of %d: a guest could not read the result", to, r.SectorSize, from, was.SectorSize)
	}
	return nil
}

// shrinkRecord keeps the record from ever telling of more bytes than there are: that
// is how data shows that was cut short by something else.
func shrinkRecord(s *sr.SR, from, to sr.Key, r *volume.Record) error {
	data, err := volume.OpenData(s, from, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer data.Close()
	st, err := sys.Fstat(data)
	if err != nil {
		return err
	}
	return r.Shrink(s, to, st.Size)
}

func replaceData(s *sr.SR, from, to sr.Key) error {
	was, err := source(s, from)
	if err != nil {
		return err
	}
	defer was.data.Close()
	temp := string(to) + ".revert"
	if err := s.Staging.Remove(temp); err != nil {
		return err
	}
	f, err := s.Staging.Create(temp)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = was.attrs.Apply(f); err == nil {
		err = reflink.CloneFile(f, was.data)
	}
	if err == nil {
		err = volume.Align(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		s.Staging.Remove(temp)
		return err
	}
	return s.Commit(temp, s.Root, sr.Data(to))
}
