package repository

import (
	"context"
	"errors"
	"time"

	"reflinksr/datapath"
	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Details is all that is known of a volume. Of one whose data was destroyed, what is allocated,
// shared and exclusive is what its file still keeps for comparisons.
type Details struct {
	VolumeStat
	DataDestroyed  bool      `json:"data_destroyed"`
	FreedBytes     int64     `json:"freed_bytes"` // these three are 0 and false of a volume with data
	LostBytes      int64     `json:"lost_bytes"`  // FreedBytes, by its name until 2026
	NoteBytes      int64     `json:"note_bytes"`  // of the file that says which are freed
	Pending        bool      `json:"pending"`     // some of them may not have been given back yet
	SectorSize     int       `json:"sector_size"` // bytes
	Created        time.Time `json:"created"`
	Origin         *Origin   `json:"origin"`
	Extents        int       `json:"extents"` // these five are -1 on NFS, which does not tell
	SharedBytes    int64     `json:"shared_bytes"`
	ExclusiveBytes int64     `json:"exclusive_bytes"`
	PinnedBytes    int64     `json:"pinned_bytes"` // as of Space
	GivesBack      int64     `json:"gives_back"`
	NextSnapshot
	Device  *Device  `json:"device"` // on this host; null: there is none
	Holders []Holder `json:"holders"`
	Mirror  *Mirror  `json:"mirror"` // of this host; null: there is none
}

// Mirror is how far a volume is mirrored to elsewhere.
type Mirror struct {
	MirrorState
	Progress float64 `json:"progress"` // from 0 to 1
}

// asMirror is nil of none.
func asMirror(m MirrorState) *Mirror {
	if m.ID == "" {
		return nil
	}
	return &Mirror{m, m.Progress()}
}

// NextSnapshot is what a snapshot of a volume comes to while a guest of this host writes to it, about, in
// milliseconds. Where that is not known, as on NFS, or there is no data, it is empty.
type NextSnapshot struct {
	Takes  *int64 `json:"snapshot_ms,omitempty"`
	Stall  *int64 `json:"snapshot_stall_ms,omitempty"`         // for how long a write of the guest waits
	AtOnce *int64 `json:"snapshot_stall_at_once_ms,omitempty"` // for how long it would wait if the disk were cloned at once
	Why    string `json:"snapshot_at_once_because,omitempty"`  // why it is, although that is long
}

func foreseen(filesystem string, extents int) NextSnapshot {
	f := snapshot.Foresee(filesystem, extents)
	ms := func(d time.Duration) *int64 { n := d.Milliseconds(); return &n }
	next := NextSnapshot{Takes: ms(f.Takes), Stall: ms(f.Stall), AtOnce: ms(f.AtOnce)}
	if f.Untraced != nil {
		next.Why = f.Untraced.Error()
	}
	return next
}

// Device is what a volume's device on this host is like.
type Device = lease.DeviceState

// Details tells all that is known of the volume, which walks over its extents.
func (v Volume) Details(context.Context) (Details, error) {
	s, err := sr.Open(string(v.SR), dirfs.Unlocked)
	if err != nil {
		return Details{}, err
	}
	defer s.Close()
	st, err := volume.Describe(s, v.Key)
	if err != nil {
		return Details{}, err
	}
	r, err := volume.Load(s, v.Key)
	if err != nil {
		return Details{}, err
	}
	u, err := volume.UsageOf(s, v.Key)
	next := foreseen(s.Meta.Filesystem.Type, u.Extents)
	if errors.Is(err, fault.ErrNoExtents) {
		u, next, err = extent.Usage{Shared: -1, Exclusive: -1, Extents: -1, Pinned: -1, GivesBack: -1}, NextSnapshot{}, nil
	}
	if err != nil {
		return Details{}, err
	}
	var left cbt.MetadataUsage
	if r.DataDestroyed {
		next = NextSnapshot{} // nobody takes one
		if left, err = cbt.MetadataUsageOf(s, v.Key); err != nil {
			return Details{}, err
		}
	}
	me, err := hostinfo.ThisHost()
	if err != nil {
		return Details{}, err
	}
	device, err := lease.DeviceOf(s, v.Key)
	if err != nil {
		return Details{}, err
	}
	mirror, err := datapath.MirrorOfVolume(string(v.SR), v.Key)
	if err != nil {
		return Details{}, err
	}
	held, err := lease.Read(s, v.Key, me)
	freed := min(left.Freed, st.VirtualSize)
	return Details{
		VolumeStat: st, DataDestroyed: r.DataDestroyed, FreedBytes: freed, LostBytes: freed, NoteBytes: left.Note, Pending: left.Pending,
		SectorSize: r.SectorSize, Created: r.Created, Origin: r.Origin,
		Extents: u.Extents, SharedBytes: u.Shared, ExclusiveBytes: u.Exclusive,
		PinnedBytes: u.Pinned, GivesBack: u.GivesBack + left.Note,
		NextSnapshot: next, Device: device, Holders: held.Holders, Mirror: asMirror(mirror),
	}, err
}
