package sr

import (
	"errors"
	"os"

	"reflinksr/internal/dirfs"
)

// What is different where other hosts change the same directory by way of a server. A
// host remembers names and attributes for up to a minute (nfs(5), "Data and metadata
// coherence"), and locking a file makes it forget what it remembers of that file alone.

// revalidate is Dir.Revalidate of the SR's directories: whoever has just got a lock sees what
// was done under it until now, on whatever host.
func (s *SR) revalidate() error {
	err := s.Root.Revalidate()
	if s.Control != nil {
		err = errors.Join(err, s.Control.Revalidate())
	}
	for _, dir := range s.Subdirs() {
		if *dir != nil {
			err = errors.Join(err, (*dir).Revalidate())
		}
	}
	return err
}

// expelLock moves the SR's lock out of the control directory and removes it: it is held,
// and NFS keeps what is open in its directory, which could not be removed then.
func (s *SR) expelLock() error {
	const passing = dirfs.SelfLock + ".old"
	if err := s.Control.Rename("lock", s.Root, passing); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return s.Root.Remove(passing)
}
