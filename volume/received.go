package volume

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sectors"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// A disk that is mirrored from elsewhere is written sector by sector, and is laid over another one in the end, which has the rest: so it
// must be known of each sector whether it was written. The file tells it of blocks. What was written of less than a block is therefore in a
// file of its own, in staging, from when the mirror begins until the volume is composed or somebody else gets it.

// MustBeWhole refuses, with fault.ErrInUse, a volume whose file has not all of it.
func MustBeWhole(s *sr.SR, key sr.Key) error {
	received, err := s.IsReceived(key)
	if err == nil && received {
		err = fault.Hint(fault.Errorf(fault.ErrInUse, string(key), "volume %s is in use: it is mirrored from elsewhere, or was, and was not composed with the disk that has the rest", key),
			"wait for the migration; if there is none any more: give it to a guest as it is, or destroy it")
	}
	return err
}

// NeverReceived says of a volume of which IsReceived cannot be told, on a filesystem that failed, that nothing of it was ever kept apart.
func NeverReceived(s *sr.SR, key sr.Key) bool {
	r, err := Load(s, key)
	return err == nil && !r.Received
}

// Receive makes the file for the sectors of a volume, durably, unless it is there. It is fault.ErrNoExtents where the filesystem does not
// tell data from holes by blocks of 4096 bytes.
func Receive(s *sr.SR, key sr.Key) error {
	there, err := s.IsReceived(key)
	if err != nil || there {
		return err
	}
	data, err := OpenReceived(s, key, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer data.Close()
	st, err := sys.Fstat(data)
	if err != nil {
		return err
	}
	r, err := LoadForChange(s, key)
	if err == nil && !r.Received {
		r.Received = true
		err = r.save(s, key)
	}
	if err != nil {
		return err
	}
	name := sr.Sectors(key)
	if err := s.Staging.Remove(name); err != nil { // one that is of no use any more
		return err
	}
	f, err := s.Staging.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = sectors.Prepare(f, st.Size, st.Ino); errors.Is(err, sectors.ErrCoarse) {
		err = fault.Errorf(fault.ErrNoExtents, string(key), "volume %s: %v: a disk cannot be mirrored to this filesystem", key, err)
	}
	if err == nil {
		err = s.Staging.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("volume %s: preparing to receive it: %w", key, err), s.Staging.Remove(name))
	}
	return nil
}

// OpenSectors opens the file with the sectors of a volume: nil if there is none.
func OpenSectors(s *sr.SR, key sr.Key, flags int) (*os.File, error) {
	if received, err := s.IsReceived(key); err != nil || !received {
		return nil, err
	}
	f, err := s.Staging.Open(sr.Sectors(key), flags)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, err
}

// LaySectors writes the sectors of a volume that are in a file of their own into a file with its blocks, and makes that durable. Doing it
// again changes nothing, as long as nobody has written to that file.
func LaySectors(s *sr.SR, key sr.Key, into *os.File) error {
	f, err := OpenSectors(s, key, unix.O_RDONLY)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	st, err := sys.Fstat(into)
	if err != nil {
		return err
	}
	if err := sectors.New(nil, f).Lay(into, st.Size); err != nil {
		return err
	}
	return into.Sync()
}

// RemoveSectors removes the file with the sectors of a volume, durably: if it came back, it could be laid over what was written since.
func RemoveSectors(s *sr.SR, key sr.Key) error {
	if there, err := s.Staging.Exists(sr.Sectors(key)); err != nil || !there {
		return err
	}
	if err := s.Staging.Remove(sr.Sectors(key)); err != nil {
		return err
	}
	return s.Staging.Sync()
}

// MakeWhole writes the sectors of a volume that are in a file of their own to its file, which has all of it then. Nobody may be writing to it.
func MakeWhole(s *sr.SR, key sr.Key) error {
	if there, err := s.IsReceived(key); err != nil || !there {
		return err
	}
	data, err := OpenReceived(s, key, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer data.Close()
	if err = LaySectors(s, key, data); err == nil {
		err = RemoveSectors(s, key)
	}
	if err != nil {
		return fmt.Errorf("volume %s: writing what was received of it to its file: %w", key, err)
	}
	return nil
}
