package repository

import (
	"context"
	"errors"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Diagnosis is what may be told to anybody of an SR: sizes and counts, no names, paths or contents.
type Diagnosis struct {
	UUID        string
	Reachable   bool // of one that is not, nothing else is known
	Filesystem  string
	Total, Free int64 // bytes
	SectorSize  int   // bytes, of new volumes
	DataCOW     bool
	Warning     string // "" if there is none
	Listed      bool   // the rest is known
	Volumes     int
	Damaged     int // of those
	Leases      int
	Staged      int               // files
	MostExtents int               // of a volume,
	Counted     int               // of so many that were asked
	Snapshot    snapshot.Forecast // of that
}

// countingTimeout bounds how long extents are counted.
const countingTimeout = 3 * time.Second

// Diagnose looks over the SR. What ctx leaves no time for is not counted.
func (s SR) Diagnose(ctx context.Context) Diagnosis {
	_, uuid, _ := layout.ParseHandle(string(s))
	d := Diagnosis{UUID: uuid}
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return d
	}
	defer open.Close()
	d.Reachable = true
	d.Total, d.Free, _ = filesystem.Space(open.Root)
	d.Filesystem, d.SectorSize, d.DataCOW = open.Meta.Filesystem.Type, open.Meta.Options.SectorSize, open.Meta.Options.DataCOW
	d.Warning = volume.Warning(open)
	keys, err := volume.Keys(open)
	if err != nil {
		return d
	}
	d.Listed, d.Volumes = true, len(keys)
	ctx, cancel := context.WithTimeout(ctx, countingTimeout)
	defer cancel()
	for _, key := range keys {
		_, err := volume.Describe(open, key)
		if errors.Is(err, fault.ErrVolumeNotFound) {
			d.Volumes-- // it was destroyed meanwhile
			continue
		}
		if err != nil {
			d.Damaged++
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		if n, err := volume.CountExtents(open, key); err == nil {
			d.Counted++
			d.MostExtents = max(d.MostExtents, n)
		}
	}
	staged, _ := open.Staging.Names()
	leases, _ := open.Leases.Names()
	d.Staged, d.Leases = len(staged), len(leases)
	d.Snapshot = snapshot.Foresee(d.Filesystem, d.MostExtents)
	return d
}
