package repository

import (
	"context"

	"reflinksr/datapath"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/volume"
)

// MirrorState is how far a mirror of a volume to elsewhere is.
type MirrorState = datapath.MirrorState

// Mirroring is a process's right to mirror a volume.
type Mirroring = datapath.Mirroring

// MirrorAway is what the process is told that is to mirror, and MirrorSent what it says when everything is at the other side.
const (
	MirrorAway = datapath.MirrorAway
	MirrorSent = datapath.Sent
)

// Mirror begins to mirror the volume to an NBD server (nbd+unix:///NAME?socket=PATH), and answers what the mirror is called. The domain has it attached.
func (d Datapath) Mirror(_ context.Context, domain, remote string) (id string, err error) {
	return datapath.Mirror(string(d), domain, remote)
}

// Mirroring is for the process that is to mirror. Whoever gets one must end it.
func (d Datapath) Mirroring(_ context.Context, id string) (*Mirroring, error) {
	return datapath.BeginMirroring(string(d), id)
}

// MirrorOf is how far a mirror is, after a second at most: fault.ErrInvalid if there is none of that name.
func MirrorOf(_ context.Context, id string) (MirrorState, error) { return datapath.MirrorOf(id) }

// Mirrors are those that this host knows of.
func Mirrors(context.Context) ([]MirrorState, error) { return datapath.Mirrors() }

// CancelMirror ends a mirror; the guest goes on.
func CancelMirror(_ context.Context, id string) error { return datapath.CancelMirror(id) }

// ForgetMirror is CancelMirror, of which nothing is known then.
func ForgetMirror(_ context.Context, id string) error { return datapath.ForgetMirror(id) }

// Frozen is a file that holds what a volume held at a moment.
type Frozen = snapshot.Frozen

// Moment is what the volume holds at a moment of the call, in a file without a name; earlier is nil or an earlier one.
func (v Volume) Moment(ctx context.Context, earlier *Frozen) (*Frozen, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return snapshot.Moment(string(v.SR), v.Key, earlier)
}

// ChangedIn tells, in order, which ranges of bytes may differ between two moments of a volume; of nil and one, which are not empty.
func ChangedIn(ctx context.Context, before, now *Frozen, add func(start, end int64)) error {
	if before == nil {
		return cbt.ContentsOf(ctx, now, add)
	}
	return cbt.ChangedIn(ctx, before, now, add)
}

// MirrorLimit is how many bytes a second a mirror of the volume may send: 0 if that is not limited.
func (v Volume) MirrorLimit(context.Context) (int64, error) {
	return volume.MirrorLimit(string(v.SR), v.Key)
}
