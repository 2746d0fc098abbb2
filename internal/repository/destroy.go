package repository

import (
	"context"
	"log/slog"

	"reflinksr/datapath"
	"reflinksr/snapshot/cbt"
	"reflinksr/volume"
)

// Destroy removes the SR with all its volumes: fault.ErrSRInUse if one of them is in use.
func (s SR) Destroy(context.Context) error { return volume.DestroySR(string(s)) }

// DestroyEmpty removes the SR, unless there are volumes in it: fault.ErrNotEmpty.
func (s SR) DestroyEmpty(context.Context) error { return volume.DestroyEmptySR(string(s)) }

// Destroy removes the volume: fault.ErrInUse or fault.ErrElsewhere if it is in use. What it
// keeps for volumes whose data was destroyed those get first. One that is not there is
// destroyed already. A migration that is over does not use it.
func (v Volume) Destroy(context.Context) error {
	if err := datapath.EndMigrations(string(v.SR), v.Key); err != nil {
		return err
	}
	if err := cbt.Destroy(string(v.SR), v.Key); err != nil {
		return err
	}
	if err := datapath.ForgetMirrorsOf(string(v.SR), v.Key); err != nil {
		slog.Warn("what is known of the mirror of a volume that is no more stays until the host is started anew", "key", v.Key, "err", err)
	}
	return nil
}

// DestroyData gives back the space of a snapshot, which from then on only tells what others
// have changed since: fault.ErrNoCBT if it was taken without that being asked for.
func (v Volume) DestroyData(context.Context) error { return cbt.DestroyData(string(v.SR), v.Key) }
