package snapshot

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"reflinksr/sr"
	"reflinksr/volume"
)

// Compose lays what was written to the volume key over the volume parent. The result
// has the identity of key, and parent is gone. Neither may be in use.
//
// A volume that comes from its parent has everything already. Any other has what was
// written to it since it was made, and takes the rest from the parent.
//
// Order: new data staged and fsynced; the parent's record renamed into staging (the
// commit), directory fsynced; new data to its place; the parent's data removed.
func Compose(handle, key, parent string) error {
	s, err := sr.Open(handle, sr.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	child, err := sr.ParseKey(key)
	if err != nil {
		return err
	}
	under, err := sr.ParseKey(parent)
	if err != nil {
		return err
	}
	if child == under {
		return sr.Errorf(sr.ErrInvalid, "key2", "volume %s cannot be composed with itself", key)
	}
	related, err := relatives(s, child, under)
	if err != nil {
		return err
	}
	cbt, err := s.LockCBT(sr.Exclusive, false)
	if err != nil {
		return err
	}
	defer cbt.Unlock()
	lock, target, err := lockBoth(s, under, child, sr.Exclusive)
	if err != nil {
		return err
	}
	defer func() { lock.Unlock() }()
	defer target.Unlock()
	c, p, err := composable(s, child, under)
	if err != nil {
		return err
	}
	defer c.close()
	defer p.close()
	gone, err := volume.OpenData(s, under, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer gone.Close()
	if err := compose(s, c, p, related); err != nil {
		return fmt.Errorf("volume %s: composing with %s: %w", key, parent, err)
	}
	lock.Discard()
	lock = nil
	// What is left to do recovery does if we cannot.
	if err := s.Discard(child); err != nil {
		slog.Error("a composition could not be completed, SR.attach will", "key", key, "parent", parent, "err", err)
	} else if err := c.record.Refresh(s, child); err != nil {
		slog.Warn("the record's copy of the size is out of date", "key", key, "err", err)
	}
	empty(gone)
	family, err := destroyedKin(s, under)
	if err == nil {
		err = trimAll(s, family)
	}
	if err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "key", parent, "err", err)
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
		if err := volume.CheckIdle(s, d.key); err != nil {
			return c, p, err
		}
		if err := volume.Mutable(s, d.key); err != nil {
			return c, p, err
		}
	}
	mine, err := sr.AttributesOf(c.file)
	if err != nil {
		return c, p, err
	}
	its, err := sr.AttributesOf(p.file)
	switch {
	case err != nil:
	case mine != its:
		err = sr.Errorf(sr.ErrInvalid, "key2", "volume %s and %s cannot share blocks: nodatacow is %v and %v", child, parent, mine.NoCOW, its.NoCOW)
	case !c.record.ReadWrite:
		err = sr.Errorf(sr.ErrInvalid, "key", "volume %s is read-only and keeps its contents", child)
	case c.record.SectorSize != p.record.SectorSize:
		err = sr.Errorf(sr.ErrInvalid, "key2", "volume %s has sectors of %d bytes, %s of %d: a guest could not read the result", child, c.record.SectorSize, parent, p.record.SectorSize)
	case c.size < p.size:
		err = sr.Errorf(sr.ErrSize, "key", "volume %s has %d bytes, fewer than %s, which has %d: resize it first", child, c.size, parent, p.size)
	}
	return c, p, err
}

func compose(s *sr.SR, c, p *disk, related bool) (err error) {
	data, record := sr.Composition(c.key, p.key)
	if !related {
		defer func() {
			if err != nil {
				s.Staging.Remove(data)
			}
		}()
		if err := layOver(s, c, p, data); err != nil {
			return err
		}
	}
	if err := s.Root.Rename(sr.Record(p.key), s.Staging, record); err != nil {
		return err
	}
	if err := s.Root.Sync(); err != nil {
		return errors.Join(err, s.Staging.Rename(record, s.Root, sr.Record(p.key)))
	}
	return nil
}

// layOver stages the parent's contents with what the child has over them.
func layOver(s *sr.SR, c, p *disk, name string) error {
	attrs, err := sr.AttributesOf(p.file)
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
	if err := sr.CloneFile(f, p.file); err != nil {
		return err
	}
	if err := f.Truncate(c.size); err != nil {
		return err
	}
	// What was allocated and is unwritten has been written with zeros.
	var failed error
	err = Extents(c.file, func(e Extent) bool {
		if length := min(e.Length, c.size-e.Logical); length > 0 {
			failed = share(f, c.file, e.Logical, length)
		}
		return failed == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return f.Sync()
}
