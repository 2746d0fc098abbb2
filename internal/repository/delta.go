package repository

import (
	"context"

	"reflinksr/snapshot/cbt"
)

// Delta is what a volume holds at one moment, and where that may differ from an older snapshot.
type Delta = cbt.Delta

// DeltaSince compares the volume with a snapshot, or of "" with nothing, and keeps what it holds
// for as long as it is read. fault.ErrUnrelated if the two do not come from one volume,
// fault.ErrInUse if it is written to, fault.ErrInvalid if one is writable where two are compared.
func (v Volume) DeltaSince(ctx context.Context, snapshot Key) (*Delta, error) {
	return cbt.DeltaOf(ctx, string(v.SR), snapshot, v.Key)
}
