package repository

import (
	"context"
	"errors"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Origin says which volume another was made of, and how.
type Origin = volume.Origin

// Kind is how a volume was made of another.
type Kind = volume.Kind

// Member is a volume and where it comes from.
type Member struct {
	VolumeStat
	Created time.Time // zero: unknown
	Origin  *Origin   // nil: of nothing. The volume that it names may be no more
}

// Family lists the volumes of the SR with where they come from, in the order of their keys.
// Those that cannot be read are left out, and are the error.
func (s SR) Family(ctx context.Context) (members []Member, failed error) {
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	keys, err := volume.Keys(open)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := context.Cause(ctx); err != nil {
			return members, errors.Join(failed, err)
		}
		v, err := volume.Describe(open, key)
		var r *volume.Record
		if err == nil {
			r, err = volume.Load(open, key)
		}
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		members = append(members, Member{VolumeStat: v, Created: r.Created, Origin: r.Origin})
	}
	return members, failed
}
