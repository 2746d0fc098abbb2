package volume

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/source"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// change edits a volume's record under its lock.
func change(handle string, key sr.Key, edit func(*Record) error) error {
	return locked(handle, key, dirfs.Exclusive, func(s *sr.SR, k sr.Key) error {
		r, err := LoadForChange(s, k)
		if err != nil {
			return err
		}
		if err := edit(r); err != nil {
			return err
		}
		return r.save(s, k)
	})
}

// locked runs do with the SR open and the volume locked.
func locked(handle string, key sr.Key, mode dirfs.LockMode, do func(*sr.SR, sr.Key) error) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	lock, err := s.LockVolume(key, mode)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return do(s, key)
}

// SetName gives the volume another name.
func SetName(handle string, key sr.Key, name string) error {
	if err := source.CheckText("name", name); err != nil {
		return err
	}
	return change(handle, key, func(r *Record) error { r.Name = name; return nil })
}

// SetDescription gives the volume another description.
func SetDescription(handle string, key sr.Key, description string) error {
	if err := source.CheckText("description", description); err != nil {
		return err
	}
	return change(handle, key, func(r *Record) error { r.Description = description; return nil })
}

// Set stores a key-value pair of the caller's with the volume. All pairs of a
// volume together have at most 512 KiB.
func Set(handle string, key sr.Key, k, v string) error {
	switch {
	case !utf8.ValidString(k):
		return fault.Errorf(fault.ErrInvalid, "pair's key", "the pair's key is not valid UTF-8")
	case !utf8.ValidString(v):
		return fault.Errorf(fault.ErrInvalid, "pair's value", "the pair's value is not valid UTF-8")
	}
	return change(handle, key, func(r *Record) error {
		if r.Keys == nil {
			r.Keys = map[string]string{}
		}
		r.Keys[k] = v
		total := 0
		for k, v := range r.Keys {
			total += len(k) + len(v)
		}
		if total > keysLimit {
			return fault.Errorf(fault.ErrInvalid, "pair's value", "volume %s: its keys would have %d bytes together, at most %d are allowed", key, total, keysLimit)
		}
		return nil
	})
}

// Unset removes a pair. Removing what is not there succeeds.
func Unset(handle string, key sr.Key, k string) error {
	return change(handle, key, func(r *Record) error { delete(r.Keys, k); return nil })
}

// Resize makes the volume at least size bytes long, at once also for a guest that
// has it. It never shrinks: ErrSize.
func Resize(handle string, key sr.Key, size int64) error {
	if err := checkSize(size); err != nil {
		return err
	}
	return locked(handle, key, dirfs.Exclusive, func(s *sr.SR, k sr.Key) error {
		r, err := LoadForChange(s, k)
		if err != nil {
			return err
		}
		if !r.ReadWrite {
			return fault.Errorf(fault.ErrInvalid, string(key), "volume %s is read-only and keeps its size: clone it, and resize the clone", key)
		}
		note, err := lease.NoteOf(s, k)
		if fault.Unseen(err) {
			return fmt.Errorf("volume %s: what is attached on this host: %w", key, err)
		}
		if err == nil && note.Nonpersistent && len(note.Domains) > 0 {
			return fault.Hint(fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: domain %s has a nonpersistent disk of it, which keeps its size", key, note.Domains[0]),
				"close that first")
		}
		if err := noDeviceElsewhere(s, k); err != nil {
			return err
		}
		f, err := OpenData(s, k, unix.O_RDWR)
		if err != nil {
			return err
		}
		defer f.Close()
		// Of the open file, not of whatever has its name by now: what is cut back to its
		// old length below must be the file whose length that was.
		st, err := sys.Fstat(f)
		if err == nil {
			err = checkLength(k, st)
		}
		if err != nil {
			return err
		}
		devices, err := lease.Devices(s, k, st)
		if err != nil {
			return err
		}
		length, ok := grown(st.Size, size)
		if !ok {
			return fault.Errorf(fault.ErrSize, string(key), "volume %s has %d bytes and cannot shrink to %d", key, st.Size, size)
		}
		if length > st.Size {
			if err := setLength(f, length); err != nil {
				return err
			}
			r.Size = advisory(length)
			err := f.Sync()
			if err == nil {
				err = r.save(s, k)
			}
			if err != nil {
				// Nobody has seen the new tail: devices keep their size until told.
				return errors.Join(fmt.Errorf("volume %s: resizing: %w", key, err), f.Truncate(st.Size))
			}
		}
		// Also when the length is right already: the last attempt may have ended here.
		for i, d := range devices {
			e := lease.UpdateSize(d)
			if e == nil {
				continue
			}
			if i == 0 && length > st.Size {
				// Nobody has seen the new tail. The record must not claim more than there is.
				r.Size = advisory(st.Size)
				if err := r.save(s, k); err == nil {
					err = f.Truncate(st.Size)
					return errors.Join(fmt.Errorf("volume %s: resizing: its device cannot be made longer: %w", key, e), err)
				}
			}
			err = errors.Join(err, fmt.Errorf("volume %s has %d bytes now, but its device does not show them yet, repeat the call: %w", key, length, e))
		}
		return err
	})
}

// noDeviceElsewhere refuses with ErrElsewhere if a guest of another host has the volume:
// only there its device can be told how long it is.
func noDeviceElsewhere(s *sr.SR, key sr.Key) error {
	me, err := hostinfo.ThisHost()
	if err != nil {
		return err
	}
	held, err := lease.Read(s, key, me)
	if err != nil {
		return err
	}
	for _, h := range held.Holders {
		if !h.Here(me) {
			return fmt.Errorf("%w: resize it there, where its device is", h.InUse(key, me))
		}
	}
	return nil
}

// Refresh brings the record's copy of the size up to date, if it is not. The
// caller holds the volume's lock.
func (r *Record) Refresh(s *sr.SR, key sr.Key) error {
	st, err := StatData(s, key)
	if err != nil || int64(r.Size) == st.Size {
		return err
	}
	r.Size = advisory(st.Size)
	return r.save(s, key)
}

// Shrink lets the record say size before the data is so short, unless it says less
// already. The caller holds the volume's lock.
func (r *Record) Shrink(s *sr.SR, key sr.Key, size int64) error {
	if int64(r.Size) <= size {
		return nil
	}
	r.Size = advisory(size)
	return r.save(s, key)
}
