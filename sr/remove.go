package sr

import (
	"errors"
	"strings"
)

// RemoveCBT removes what is kept in CBT of a volume.
func (s *SR) RemoveCBT(key Key) error {
	return errors.Join(s.CBT.Remove(string(key)), s.CBT.Remove(string(key)+PendingCBT))
}

// removeNonpersistent removes the nonpersistent disks of a volume that is no more.
func (s *SR) removeNonpersistent(key Key) error {
	names, err := s.Staging.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, string(key)+".") && strings.HasSuffix(name, NonpersistentSuffix) {
			if err := s.Staging.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Discard removes a volume whose record is in staging. The caller holds its lock.
// Failing is no loss: recovery does it again.
func (s *SR) Discard(key Key) error { return s.finishOrUndo(key) }
