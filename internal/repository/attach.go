package repository

import (
	"context"
	"log/slog"

	"reflinksr/datapath"
	"reflinksr/internal/attached"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
)

// Attach makes an SR usable on this host, and finishes or takes back what a crash interrupted:
// in the SR itself, what guests of a former boot left, and space that was to be given back.
func Attach(ctx context.Context, configuration map[string]string) (SR, error) {
	return AttachBy(ctx, "", configuration)
}

// SMAPIv1 is the older of the toolstack's interfaces for storage; the other is "".
const SMAPIv1 = attached.SMAPIv1

// AttachBy is Attach by one of these interfaces: fault.ErrSRInUse if the SR is attached by the other.
func AttachBy(ctx context.Context, by string, configuration map[string]string) (SR, error) {
	handle, err := sr.AttachBy(by, configuration)
	if err != nil {
		return "", err
	}
	if err := datapath.Recover(handle); err != nil {
		// It is attached and usable; the next attach tries again.
		slog.ErrorContext(ctx, "what guests of a former boot left could not all be removed", "sr", handle, "err", err)
	}
	if err := cbt.Recover(handle); err != nil {
		slog.ErrorContext(ctx, "space of destroyed snapshots could not all be given back", "sr", handle, "err", err)
	}
	snapshot.Sweep()
	return SR(handle), nil
}

// Detach forgets the SR on this host, and ends nonpersistent disks that nobody has attached. It
// is fault.ErrSRInUse if a volume has a device here.
func (s SR) Detach(context.Context) error { return datapath.DetachSR(string(s)) }
