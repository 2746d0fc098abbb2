package cbt

import (
	"errors"
	"os"
	"slices"

	"reflinksr/sr"
)

// MetadataUsage is what is left of a volume whose data was destroyed, besides its file.
type MetadataUsage struct {
	Freed   int64 // bytes of the disk that it has not any more
	Note    int64 // bytes of the file that says which
	Pending bool  // some of what is freed may not have been given back yet
}

// MetadataUsageOf reads what is left of a volume whose data was destroyed.
func MetadataUsageOf(s *sr.SR, key sr.Key) (MetadataUsage, error) {
	l, pending, err := loadFreed(s, key)
	if err != nil {
		return MetadataUsage{}, err
	}
	r := MetadataUsage{Pending: pending}
	for freed := range l.runs.all() {
		r.Freed += freed.count * granularity
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
