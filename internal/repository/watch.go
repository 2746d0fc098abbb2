package repository

import (
	"context"
	"errors"
	"path/filepath"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Sight is what an SR is like at a moment, for who looks every second.
type Sight struct {
	SRStat
	Path  string
	Gone  bool // it is not attached any more: nothing else is known
	Disks []Seen
}

// Seen is a disk that can be written to, or a volume that has a device on this host.
type Seen struct {
	VolumeStat
	Device  *Disk // nil: it has none here
	Domains []string
}

// Look looks at SRs: one look at each volume, and at this host's notes of devices. No volume's data is opened. What cannot be looked at
// is told to be unreachable.
func Look(ctx context.Context, srs []SR) ([]Sight, error) {
	noted, err := lease.Disks()
	if err != nil {
		return nil, err
	}
	here := map[Disk]lease.Disk{}
	for _, d := range noted {
		here[Disk{SR: d.SR, Key: d.Key}] = d
	}
	all := make([]Sight, len(srs))
	for i, s := range srs {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if all[i], err = s.look(ctx, here); err != nil {
			all[i].Health = [2]string{sr.Unreachable, err.Error()}
		}
	}
	return all, nil
}

func (s SR) look(ctx context.Context, here map[Disk]lease.Disk) (seen Sight, err error) {
	if seen.Path, err = s.Path(); err != nil {
		return seen, err
	}
	seen.SRStat, err = s.Stat(ctx)
	if errors.Is(err, fault.ErrNotAttached) {
		seen.Gone = true
		return seen, nil
	}
	if err != nil || seen.Health[0] != Healthy {
		return seen, err
	}
	volumes, err := s.List(ctx)
	if errors.Is(err, fault.ErrNotAttached) {
		return Sight{Path: seen.Path, Gone: true}, nil
	}
	if err != nil {
		return seen, err
	}
	for _, v := range volumes {
		one := Seen{VolumeStat: v, Domains: []string{}}
		d, attached := here[Disk{SR: seen.UUID, Key: v.Key}]
		if attached {
			one.Device = &Disk{d.SR, d.Key, filepath.Base(d.Device.Path()), d.Device.Sequence}
			one.Domains = d.Domains
		}
		if v.ReadWrite || attached {
			seen.Disks = append(seen.Disks, one)
		}
	}
	return seen, nil
}

// Forecast counts the extents of the volume as far as they are written out, and says what a snapshot of it comes to. Guests wait for
// some hundred extents at a time, and nothing is written out for it. fault.ErrNoExtents on NFS; when ctx ends, the error is its cause.
func (v Volume) Forecast(ctx context.Context) (extents int, next NextSnapshot, err error) {
	s, err := sr.Open(string(v.SR), dirfs.Unlocked)
	if err != nil {
		return 0, next, err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return 0, next, err
	}
	u, whole, err := volume.Glance(s, v.Key, func() bool { return ctx.Err() == nil })
	if err == nil && !whole {
		err = context.Cause(ctx)
	}
	return u.Extents, foreseen(s.Meta.Filesystem.Type, u.Extents), err
}
