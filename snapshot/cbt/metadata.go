package cbt

import (
	"errors"
	"os"
	"slices"

	"reflinksr/sr"
)

// Remains is what is left of a volume whose data was destroyed, besides its file.
type Remains struct {
	Lost    int64 // bytes of the disk that it has not any more
	Note    int64 // bytes of the file that says which
	Pending bool  // some of what is lost may not have been given back yet
}

// RemainsOf reads what is left of a volume whose data was destroyed.
func RemainsOf(s *sr.SR, key sr.Key) (Remains, error) {
	l, pending, err := loadLost(s, key)
	if err != nil {
		return Remains{}, err
	}
	r := Remains{Pending: pending}
	for lost := range l.runs.all() {
		r.Lost += lost.count * granularity
	}
	for _, name := range []string{string(key), string(key) + sr.PendingCBT} {
		st, err := s.CBT.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return r, err
		}
		r.Note += st.Size
	}
	return r, nil
}

// DestroyedRelatives lists the relatives of a volume whose data was destroyed, oldest
// first. What only they share with the volume is given back with it.
func DestroyedRelatives(s *sr.SR, key sr.Key) ([]sr.Key, error) {
	family, err := destroyedKin(s, key)
	return slices.DeleteFunc(family, func(k sr.Key) bool { return k == key }), err
}
