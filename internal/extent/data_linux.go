package extent

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// EachData calls do with the pieces between two places of a file that are no holes, in order.
func EachData(f *os.File, from, to int64, do func(start, end int64) error) error {
	for from < to {
		start, err := f.Seek(from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && start >= to { // nothing but a hole follows
			return nil
		}
		if err != nil {
			return err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if from = min(end, to); from > start {
			if err := do(start, from); err != nil {
				return err
			}
		}
	}
	return nil
}
