package repository

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Metrics are figures of an SR for who watches it over a long time. All sizes are in bytes.
type Metrics struct {
	Stat       SRStat // of one that is unreachable, this is all
	UUID, Path string
	Filesystem string

	Promised      int64 // to guests: the sizes of all disks that can be written to
	Allocated     int64 // by all volumes; what several share counts for each
	Disks         int   // volumes that can be written to,
	Snapshots     int   // that cannot,
	Destroyed     int   // whose data was destroyed,
	Damaged       int   // of which nobody knows
	DestroyedHeld int64 // what those without data still have, with their notes
	Volumes       []VolumeMetrics

	Measured    int           // volumes whose extents were looked at, within the time that there was
	MostExtents int           // of a disk, of those
	Stall       time.Duration // for which a write to that waits when a snapshot is taken, about
}

// VolumeMetrics are figures of a volume.
type VolumeMetrics struct {
	VolumeStat
	Damaged   bool // then the rest is not known
	Measured  bool // the rest is known
	Extents   int
	Exclusive int64 // bytes that no other volume shares
}

// Metrics measures the SR. What costs little is always told: one look at each volume. The extents of volumes are walked over as long as
// extents allows, which ends the last walk as well: those of disks that can be written to first, and in each kind beginning with
// another one each time, so that none is always left out. An SR that is not where it was attached is described as unreachable.
func (s SR) Metrics(ctx context.Context, extents time.Duration) (m Metrics, err error) {
	if m.Stat, err = s.Stat(ctx); err != nil {
		return m, err
	}
	m.UUID = m.Stat.UUID
	if m.Path, err = s.Path(); err != nil || m.Stat.Health[0] != sr.Healthy {
		return m, err
	}
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return m, err
	}
	defer open.Close()
	m.Filesystem = open.Meta.Filesystem.Type
	all, err := s.List(ctx)
	if err != nil {
		return m, err
	}
	for _, v := range all {
		m.add(open, v)
	}
	ctx, cancel := context.WithTimeout(ctx, extents)
	defer cancel()
	if open.MustMapExtents() == nil {
		m.measure(ctx, open)
	}
	m.Stall = snapshot.Foresee(m.Filesystem, m.MostExtents).Stall
	return m, nil
}

// add counts a volume.
func (m *Metrics) add(open *sr.SR, v VolumeStat) {
	one := VolumeMetrics{VolumeStat: v}
	switch _, err := volume.Load(open, v.Key); {
	case errors.Is(err, fault.ErrVolumeNotFound):
		return // destroyed meanwhile
	case err != nil:
		one.Damaged = true
		m.Damaged++
	case v.VolumeType == CBTMetadata:
		m.Destroyed++
		m.DestroyedHeld = plus(m.DestroyedHeld, v.PhysicalUtilisation)
		if left, err := cbt.MetadataUsageOf(open, v.Key); err == nil {
			m.DestroyedHeld = plus(m.DestroyedHeld, left.Note)
		}
	case v.ReadWrite:
		m.Disks++
		m.Promised = plus(m.Promised, v.VirtualSize)
	default:
		m.Snapshots++
	}
	m.Allocated = plus(m.Allocated, v.PhysicalUtilisation)
	m.Volumes = append(m.Volumes, one)
}

// plus adds sizes. The sum of those that disks may have can be more than a number can say: then it is the greatest.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// measure walks over extents until ctx ends.
func (m *Metrics) measure(ctx context.Context, open *sr.SR) {
	goOn := func() bool { return ctx.Err() == nil }
	for _, i := range inTurn(m.Volumes) {
		v := &m.Volumes[i]
		u, whole, err := volume.Glance(open, v.Key, goOn)
		if ctx.Err() != nil && !whole {
			return
		}
		if err != nil {
			continue // destroyed or damaged meanwhile
		}
		v.Measured, v.Extents, v.Exclusive = true, u.Extents, u.Exclusive
		m.Measured++
		if v.ReadWrite {
			m.MostExtents = max(m.MostExtents, u.Extents)
		}
	}
}

// inTurn is in which order volumes are measured.
func inTurn(volumes []VolumeMetrics) (order []int) {
	var disks, others []int
	for i, v := range volumes {
		switch {
		case v.Damaged:
		case v.ReadWrite:
			disks = append(disks, i)
		default:
			others = append(others, i)
		}
	}
	for _, kind := range [][]int{disks, others} {
		if len(kind) > 0 {
			first := rand.IntN(len(kind)) // #nosec G404 -- any will do
			order = append(append(order, kind[first:]...), kind[:first]...)
		}
	}
	return order
}
