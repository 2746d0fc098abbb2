package cbt

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Compose lays what was written to the volume child over the volume parent. The result
// has the identity of child, and parent is gone. Neither may be in use.
//
// A volume that comes from its parent has everything already. Any other has what was
// written to it since it was made, and takes the rest from the parent. What was received sector by sector (volume.Receive) counts by the
// sector, all else by the block.
//
// Order: new data staged and fsynced; exchanged with the volume's; the parent's record
// renamed into staging (the commit), directory fsynced; the parent's data and the old
// data removed, and the sectors that were apart. Stopped after the exchange, the volume has everything, and the parent is
// still there: the second attempt ends it. The sectors are of the old data, and of no use from then on.
func Compose(handle string, child, parent sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if child == parent {
		return fault.Errorf(fault.ErrInvalid, string(child), "volume %s cannot be composed with itself", child)
	}
	related, err := relatives(s, child, parent)
	if err != nil {
		return err
	}
	cbt, err := s.LockCBT(dirfs.Exclusive, false)
	if err != nil {
		return err
	}
	defer cbt.Unlock()
	family, err := destroyedKin(s, parent)
	if err != nil {
		return err
	}
	if err := composeLocked(s, child, parent, related, family); err != nil {
		return err
	}
	if err := trimAll(s, family); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "key", parent, "err", err)
	}
	return nil
}

// composeLocked composes, and lets go of all files: as long as one is open, its blocks
// are shared with it.
func composeLocked(s *sr.SR, child, parent sr.Key, related bool, family []sr.Key) error {
	lock, target, err := s.LockBoth(parent, child, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer func() { lock.Unlock() }()
	defer target.Unlock()
	c, p, err := composable(s, child, parent)
	if err != nil {
		return err
	}
	defer c.close()
	defer p.close()
	withdraw, err := announce(s, family)
	if err == nil {
		err = compose(s, c, p, related)
	}
	if err != nil {
		withdraw()
		return fmt.Errorf("volume %s: composing with %s: %w", child, parent, err)
	}
	volume.RemoveFiles(s, parent)
	lock.Discard()
	lock = nil
	if err := volume.RemoveSectors(s, child); err != nil {
		slog.Error("what was received of a composed volume, and is in it, stays until its SR is attached", "key", child, "err", err)
	}
	return nil
}

func relatives(s *sr.SR, a, b sr.Key) (bool, error) {
	p, err := openPair(s, a, b)
	if err != nil {
		return false, err
	}
	defer p.close()
	return p.related()
}

// composable opens the two volumes if they can be composed.
func composable(s *sr.SR, child, parent sr.Key) (c, p *disk, err error) {
	defer func() {
		if err != nil {
			c.close()
			p.close()
		}
	}()
	if c, err = openDisk(s, child); err != nil {
		return c, p, err
	}
	if p, err = openDisk(s, parent); err != nil {
		return c, p, err
	}
	for _, d := range []*disk{c, p} {
		if err := d.record.MustHaveData(d.key); err != nil {
			return c, p, err
		}
		idle := lease.CheckIdle
		if d == c {
			idle = lease.CheckInactive // a guest that migrates has it attached already
		}
		if err := idle(s, d.key); err != nil {
			return c, p, err
		}
		if err := volume.Mutable(s, d.key); err != nil {
			return c, p, err
		}
	}
	if err := volume.MustBeWhole(s, parent); err != nil {
		return c, p, err
	}
	switch {
	case !c.record.ReadWrite:
		err = fault.Errorf(fault.ErrInvalid, string(child), "volume %s is read-only and keeps its contents", child)
	case c.record.SectorSize != p.record.SectorSize:
		err = fault.Errorf(fault.ErrInvalid, string(parent), "volume %s has sectors of %d bytes, %s of %d: a guest could not read the result", child, c.record.SectorSize, parent, p.record.SectorSize)
	case c.size < p.size:
		err = fault.Errorf(fault.ErrSize, string(child), "volume %s has %d bytes, fewer than %s, which has %d: resize it first", child, c.size, parent, p.size)
	}
	return c, p, err
}

func compose(s *sr.SR, c, p *disk, related bool) error {
	record := sr.Record(p.key)
	end := func() (undo func() error, err error) {
		err = s.Root.Rename(record, s.Staging, record)
		return func() error { return s.Staging.Rename(record, s.Root, record) }, err
	}
	if !related {
		data := sr.Composed(c.key)
		err := layOver(s, c, p, data)
		if errors.Is(err, unix.EINVAL) {
			err = fault.Errorf(fault.ErrInvalid, string(p.key), "volume %s and %s cannot share blocks: one has checksums and the other has none (nodatacow): %v", c.key, p.key, err)
		}
		if err != nil {
			return errors.Join(err, s.Staging.Remove(data))
		}
		return s.CommitAnd(data, s.Root, sr.Data(c.key), end)
	}
	if err := volume.MakeWhole(s, c.key); err != nil {
		return err
	}
	undo, err := end()
	if err != nil {
		return err
	}
	if err := s.Root.Sync(); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

// layOver stages the parent's contents with what the child has over them.
func layOver(s *sr.SR, c, p *disk, name string) error {
	attrs, err := reflink.AttributesOf(p.file)
	if err != nil {
		return err
	}
	if err := s.Staging.Remove(name); err != nil {
		return err
	}
	f, err := s.Staging.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := attrs.Apply(f); err != nil {
		return err
	}
	if err := reflink.CloneFile(f, p.file); err != nil {
		return err
	}
	if err := f.Truncate(c.size); err != nil {
		return err
	}
	// What was allocated and is unwritten has been written with zeros.
	var failed error
	err = extent.Each(c.file, func(e extent.Extent) bool {
		if length := min(e.Length, c.size-e.Logical); length > 0 {
			failed = share(f, c.file, e.Logical, length)
		}
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if err := volume.LaySectors(s, c.key, f); err != nil {
		return err
	}
	return f.Sync()
}
