package check

import (
	"reflinksr/internal/dirfs"
	"reflinksr/sr"
)

// Quiet waits until no call changes the volume, and keeps it so until release. busy
// names the process if that takes too long. It makes no lock file: where there is
// none, no call is at work.
func Quiet(s *sr.SR, key sr.Key) (release func(), busy string, err error) {
	var held []*dirfs.Lock
	release = func() {
		for _, lock := range held {
			lock.Unlock()
		}
	}
	for _, place := range []struct {
		dir  *dirfs.Dir
		name string
	}{{s.Locks, string(key)}, {s.Control, "lock"}, {s.Control, "leases.lock"}} {
		if place.dir == nil || place.name == "lock" && s.Lock != nil {
			continue
		}
		lock, busy, err := place.dir.LookLockFor(place.name, dirfs.LookTimeout)
		if err != nil || busy != "" {
			release()
			return func() {}, busy, err
		}
		held = append(held, lock)
	}
	return release, "", nil
}

// QuietCBT is Quiet for what is kept of volumes whose data was destroyed.
func QuietCBT(s *sr.SR) (release func(), busy string, err error) {
	if s.Control == nil {
		return func() {}, "", nil
	}
	lock, busy, err := s.Control.LookLockFor("cbt.lock", dirfs.LookTimeout)
	return func() { lock.Unlock() }, busy, err
}

// Working says whether a call has the volume's lock alone at this moment.
func Working(s *sr.SR, key sr.Key) (bool, error) {
	lock, busy, err := s.Locks.LookLockFor(string(key), 0)
	lock.Unlock()
	return busy != "", err
}
