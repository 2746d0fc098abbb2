package volume

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
)

// cloneOnBoot is the key under which the toolstack notes the clone that it made
// of a disk that is reset at every boot. Destroying the disk destroys the clone:
// the toolstack loses track of it.
const cloneOnBoot = "clone-on-boot"

// DestroyIn removes a volume of an open SR that is not in use. A key that names nothing
// is no error: it may be the second attempt.
//
// Order: record renamed into staging (the commit), directory fsynced, data and
// record removed. It needs no space.
func DestroyIn(s *sr.SR, key sr.Key) error {
	if err := destroyClone(s, key); err != nil {
		return err
	}
	return destroy(s, key)
}

// destroyClone destroys the volume's clone-on-boot, if it has one. It goes first:
// if that fails, nothing has happened, and if we crash after it, the next attempt
// finds nothing to do here.
func destroyClone(s *sr.SR, key sr.Key) error {
	r, err := LoadForChange(s, key)
	if fault.Classify(err) != nil {
		return nil // destroy will say
	}
	if err != nil {
		return err // it can be read again in a moment, and may name a clone
	}
	clone, err := sr.ParseKey(r.Keys[cloneOnBoot])
	if err != nil {
		return nil
	}
	// The value is the caller's; only a clone of this very volume is meant.
	c, err := Load(s, clone)
	if err != nil && fault.Classify(err) == nil {
		return err
	}
	if err != nil || c.Origin == nil || c.Origin.Of != key || c.Origin.Kind != Clone {
		return nil
	}
	if err := lease.CheckIdle(s, key); err != nil {
		return err
	}
	if err := removable(s, key); err != nil {
		return err
	}
	return destroy(s, clone)
}

func destroy(s *sr.SR, key sr.Key) error {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := remove(s, key); err != nil {
		lock.Unlock()
		return err
	}
	lock.Discard()
	return nil
}

// remove ends the volume. The caller holds its lock.
func remove(s *sr.SR, key sr.Key) error {
	// A damaged volume can be destroyed.
	if _, err := LoadForChange(s, key); err != nil && !errors.Is(err, fault.ErrDamaged) {
		return err
	}
	if err := lease.CheckIdle(s, key); err != nil {
		return err
	}
	if err := removable(s, key); err != nil {
		return err
	}
	err := s.Root.Rename(sr.Record(key), s.Staging, sr.Record(key))
	if fault.Classify(err) == fault.ErrNoSpace {
		// Not even room for a name in staging. Removing needs none.
		err = s.Root.Remove(sr.Record(key))
	}
	if err != nil {
		return fmt.Errorf("volume %s: destroying: %w", key, err)
	}
	if err := s.Root.Sync(); err != nil {
		err = fmt.Errorf("volume %s: destroying: %w", key, err)
		return errors.Join(err, s.Staging.Rename(sr.Record(key), s.Root, sr.Record(key)))
	}
	RemoveFiles(s, key)
	return nil
}

// RemoveFiles removes what is left of a volume whose record is in staging, or gone: it is no
// more. What we cannot remove recovery does. The caller holds its lock.
func RemoveFiles(s *sr.SR, key sr.Key) {
	lease.RemoveNote(s.Meta.UUID, key)
	err := errors.Join(s.Leases.Remove(string(key)), s.Root.Remove(sr.Data(key)))
	if err = errors.Join(err, s.Discard(key)); err != nil {
		slog.Error("a destroyed volume's files could not all be removed", "key", key, "err", err)
	}
}

// removable refuses what could be removed from the list but not from the disk.
func removable(s *sr.SR, key sr.Key) error {
	for _, name := range []string{sr.Record(key), sr.Data(key)} {
		st, err := s.Root.Stat(name)
		if fault.Unseen(err) {
			return fmt.Errorf("volume %s: %w", key, err)
		}
		if st != nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s cannot be destroyed: %s/%s is a directory", key, s.Path, name),
				"move it away")
		}
	}
	return Mutable(s, key)
}

// Mutable refuses a volume one of whose files has an attribute that keeps it from
// being removed: somebody wants it kept.
func Mutable(s *sr.SR, key sr.Key) error {
	for _, name := range []string{sr.Data(key), sr.Record(key)} {
		f, err := s.Root.Open(name, unix.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, fault.ErrDamaged) {
			continue // no file, or none of ours: it takes no space
		}
		if err != nil {
			return fmt.Errorf("volume %s: whether it may be changed: %w", key, err)
		}
		fixed, err := reflink.Immutable(f)
		f.Close()
		if err == nil && fixed {
			err = fault.Hint(fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: its file %s/%s is immutable", key, s.Path, name),
				"chattr -ia")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// DestroySR destroys the SR with all its volumes, unless one of them is in use.
func DestroySR(handle string) error { return destroySR(handle, false) }

// DestroyEmptySR destroys the SR, if there is no volume in it, damaged ones included: fault.ErrNotEmpty.
func DestroyEmptySR(handle string) error { return destroySR(handle, true) }

func destroySR(handle string, empty bool) error {
	_, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return err
	}
	var keys []sr.Key
	err = sr.Destroy(handle, func(s *sr.SR) (err error) {
		if keys, err = Keys(s); err != nil {
			return err
		}
		if empty && len(keys) > 0 {
			return fault.Hint(fault.Errorf(fault.ErrNotEmpty, s.Path, "SR %s is not empty: there are %d volumes in it, the first is %s", s.Path, len(keys), keys[0]), "destroy them first")
		}
		me, err := hostinfo.ThisHost()
		if err != nil {
			return err
		}
		bound, err := lease.BoundNear(s)
		if err != nil {
			return err
		}
		for _, key := range keys {
			err := lease.CheckIdleAmong(s, key, me, bound)
			if err == nil {
				err = Mutable(s, key)
			}
			switch class := fault.Classify(err); {
			case err == nil:
			case class == nil:
				return fmt.Errorf("SR %s: whether volume %s is in use: %w", s.Path, key, err)
			case class == fault.ErrInUse, class == fault.ErrElsewhere:
				return fault.Errorf(fault.ErrSRInUse, s.Path, "SR %s is in use: %v", s.Path, err)
			default: // what should tell is damaged, say
				return fault.Errorf(class, s.Path, "SR %s: whether volume %s is in use cannot be told: %v", s.Path, key, err)
			}
		}
		return nil
	})
	if err == nil {
		for _, key := range keys {
			lease.RemoveNote(uuid, key)
		}
	}
	return err
}
