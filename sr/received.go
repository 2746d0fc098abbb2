package sr

import (
	"golang.org/x/sys/unix"

	"reflinksr/internal/sectors"
	"reflinksr/internal/sys"
)

// IsReceived says whether sectors of a volume are in a file of their own, Sectors. One that is of another file than the volume has is of no
// use any more: the volume was composed, which took them in.
func (s *SR) IsReceived(key Key) (bool, error) {
	f, err := s.Staging.Open(Sectors(key), unix.O_RDONLY)
	if err != nil {
		return false, sys.UnlessAbsent(err)
	}
	defer f.Close()
	ino, err := sectors.Of(f)
	if err != nil {
		return false, err
	}
	data, err := s.Root.Stat(Data(key))
	return data != nil && data.Ino == ino, sys.UnlessAbsent(err)
}
