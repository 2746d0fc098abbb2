package check

import (
	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// quiet waits until no call changes the volume, and keeps it so until release. busy
// names the process if that takes too long. It makes no lock file: where there is
// none, no call is at work.
func quiet(s *sr.SR, key sr.Key) (release func(), busy string, err error) {
	var held []*dirfs.Lock
	release = func() {
		for _, lock := range held {
			lock.Unlock()
		}
	}
	for _, place := range []struct {
		dir  *dirfs.Dir
		name string
	}{{s.Locks, string(key)}, {s.Control, "lock"}, {s.Control, layout.LeasesLock}} {
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

// quietCBT is quiet for what is kept of volumes whose data was destroyed.
func quietCBT(s *sr.SR) (release func(), busy string, err error) {
	if s.Control == nil {
		return func() {}, "", nil
	}
	lock, busy, err := s.Control.LookLockFor(layout.CBTLock, dirfs.LookTimeout)
	return func() { lock.Unlock() }, busy, err
}

// working says whether a call has the volume's lock alone at this moment.
func working(s *sr.SR, key sr.Key) (bool, error) {
	lock, busy, err := s.Locks.LookLockFor(string(key), 0)
	lock.Unlock()
	return busy != "", err
}
