package volume

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/internal/source"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// Create makes an empty volume of at least size bytes: of 0 the smallest there is.
func Create(handle, name, description string, size int64, sharable bool) (Volume, error) {
	return CreateAs(handle, &Record{Name: name, Description: description, ReadWrite: true, Sharable: sharable}, size)
}

// CreateAs is Create from a record.
func CreateAs(handle string, r *Record, size int64) (Volume, error) {
	if size == 0 {
		size = 1
	}
	return createWith(handle, r, size, func(_ *sr.SR, f *os.File) error { return setLength(f, RoundUpNew(size)) })
}

// createWith makes a volume of at least size bytes from a record and what fill puts into its empty data file. Where the record
// tells no sector size, it is that of the SR's disks.
func createWith(handle string, r *Record, size int64, fill func(*sr.SR, *os.File) error) (Volume, error) {
	if err := checkSize(size); err != nil {
		return Volume{}, err
	}
	if err := errors.Join(source.CheckText("name", r.Name), source.CheckText("description", r.Description)); err != nil {
		return Volume{}, err
	}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return Volume{}, err
	}
	defer s.Close()
	if r.SectorSize == 0 {
		r.SectorSize = s.Meta.Options.SectorSize
	}
	return Add(s, r, s.Meta.Options.Attributes(), func(f *os.File) error { return fill(s, f) })
}

// Add makes a volume with a new key, or that which is chosen in it, from a record and whatever fill puts into its
// empty data file. The data gets its attributes before its first byte. On error
// nothing is left behind. s is open Shared.
//
// Order: data staged and fsynced, record staged and fsynced, data renamed into
// place, record renamed into place (the commit), directory fsynced.
func Add(s *sr.SR, r *Record, attrs reflink.Attributes, fill func(*os.File) error) (_ Volume, err error) {
	key, lock, err := lockNew(s, r.Chosen)
	if err != nil {
		return Volume{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, takeBack(s, key))
			lock.Discard()
			return
		}
		lock.Unlock()
	}()
	st, err := stage(s, key, attrs, fill)
	if err != nil {
		return Volume{}, err
	}
	if err := addStaged(s, key, r, st); err != nil {
		return Volume{}, err
	}
	return describe(s, key, r, st), nil
}

// lockNew is a key for a new volume, and its lock: a new one, or that which was chosen, if nothing has it.
func lockNew(s *sr.SR, chosen sr.Key) (key sr.Key, lock *dirfs.Lock, err error) {
	if chosen != "" {
		lock, err := lockChosen(s, chosen)
		return chosen, lock, err
	}
	if key, err = sr.NewKey(); err != nil {
		return "", nil, err
	}
	if lock, err = s.LockNew(key); err != nil {
		s.Locks.Remove(string(key)) // nobody else knows the key
	}
	return key, lock, err
}

// lockChosen locks a key for a volume that has yet to be made with it: fault.ErrVolumeExists, and nothing is touched, if there are
// files of it. What an interrupted attempt has left goes.
func lockChosen(s *sr.SR, key sr.Key) (*dirfs.Lock, error) {
	lock, err := s.LockNew(key)
	if err != nil {
		return nil, err
	}
	err = absent(s, key)
	if err == nil {
		if err = s.Discard(key); err == nil {
			return lock, nil
		}
	}
	release(s, key, lock)
	return nil, err
}

// release ends the lock of a key of which a volume may have been made: those that are there keep theirs.
func release(s *sr.SR, key sr.Key, lock *dirfs.Lock) {
	if there, err := s.Root.Exists(sr.Record(key)); there || err != nil {
		lock.Unlock()
	} else {
		lock.Discard()
	}
}

// absent refuses a key of which there are files in the SR's directory.
func absent(s *sr.SR, key sr.Key) error {
	for _, name := range []string{sr.Record(key), sr.Data(key)} {
		there, err := s.Root.Exists(name)
		if err != nil {
			return err
		}
		staged, err := s.Staging.Exists(sr.Record(key))
		if err != nil {
			return err
		}
		if there && !(staged && name == sr.Data(key)) { // that is of an interrupted attempt, which is taken back
			return fault.Hint(fault.Errorf(fault.ErrVolumeExists, string(key), "volume %s: %s/%s is there already", key, s.Path, name),
				"destroy that volume, or move its files away")
		}
	}
	return nil
}

// addStaged makes a volume of data that are staged, durable, and like st. The caller holds the key's lock.
func addStaged(s *sr.SR, key sr.Key, r *Record, st *unix.Stat_t) error {
	if err := r.enumerate(s); err != nil {
		return fmt.Errorf("numbering the new volume: %w", err)
	}
	r.Size = advisory(st.Size)
	r.Created = time.Now().UTC().Truncate(time.Second)
	data, err := r.encode()
	if err != nil {
		return err
	}
	if err := s.Staging.WriteNew(sr.Record(key), data); err != nil {
		return fmt.Errorf("writing the new volume's record: %w", err)
	}
	if err := s.Staging.Rename(sr.Data(key), s.Root, sr.Data(key)); err != nil {
		return err
	}
	if err := s.Staging.Rename(sr.Record(key), s.Root, sr.Record(key)); err != nil {
		return err
	}
	if err := s.Root.Sync(); err != nil {
		return fmt.Errorf("making the new volume durable: %w", err)
	}
	s.RememberNew(key)
	return nil
}

// takeBack undoes Add from wherever it got to, in an order that recovery can
// finish from wherever this gets to.
func takeBack(s *sr.SR, key sr.Key) error {
	if err := s.Root.Rename(sr.Record(key), s.Staging, sr.Record(key)); err != nil {
		// What keeps it from being renamed does not matter if it is not there.
		if there, e := s.Root.Exists(sr.Record(key)); e != nil || there {
			return errors.Join(err, e)
		}
	}
	return s.Discard(key)
}

func stage(s *sr.SR, key sr.Key, attrs reflink.Attributes, fill func(*os.File) error) (*unix.Stat_t, error) {
	f, err := s.Staging.Create(sr.Data(key))
	if err != nil {
		return nil, fmt.Errorf("making the new volume's data file: %w", err)
	}
	defer f.Close()
	if err := attrs.Apply(f); err != nil {
		return nil, err
	}
	if err := fill(f); err != nil {
		return nil, err
	}
	// On btrfs an unsynced clone is an empty file after a power cut.
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("making the new volume's data durable: %w", err)
	}
	return sys.Fstat(f)
}

// setLength makes a data file longer.
func setLength(f *os.File, length int64) error {
	err := f.Truncate(length)
	if errors.Is(err, unix.EFBIG) || errors.Is(err, unix.EINVAL) {
		return fault.Errorf(fault.ErrSize, "size", "the size is %d, more than the filesystem's maximum for a file", length)
	}
	return err
}

// Align makes a data file's length a whole number of SizeUnits, durably. Files of
// the simple file SR may have any length.
func Align(f *os.File) error {
	st, err := sys.Fstat(f)
	if err != nil || st.Size%SizeUnit == 0 {
		return err
	}
	if err := f.Truncate(RoundUp(st.Size)); err != nil {
		return err
	}
	return f.Sync()
}
