package sr

import (
	"reflinksr/internal/dirfs"
)

// LockBoth locks a source as told and a target Exclusive, in the order of their keys as
// everybody does.
func (s *SR) LockBoth(from, to Key, mode dirfs.LockMode) (source, target *dirfs.Lock, err error) {
	if from < to {
		source, err = s.LockVolume(from, mode)
	}
	if err == nil {
		target, err = s.LockVolume(to, dirfs.Exclusive)
	}
	if err == nil && from > to {
		source, err = s.LockVolume(from, mode)
	}
	if err != nil {
		source.Unlock()
		target.Unlock()
		return nil, nil, err
	}
	return source, target, nil
}
