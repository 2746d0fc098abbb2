package sr

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sectors"
)

// IsReceived says whether sectors of a volume are in a file of their own, Sectors. One that is of another file than the volume has is of no
// use any more: the volume was composed, which took them in.
func (s *SR) IsReceived(key Key) (bool, error) {
	if there, err := s.Staging.Exists(Sectors(key)); err != nil || !there {
		return false, err
	}
	f, err := s.Staging.Open(Sectors(key), unix.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	ino, err := sectors.Of(f)
	if err != nil {
		return false, err
	}
	data, err := s.Root.Stat(Data(key))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return data != nil && data.Ino == ino, err
}
