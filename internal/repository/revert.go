package repository

import (
	"context"

	"reflinksr/snapshot"
)

// Revert gives the volume the contents of another of its SR, and leaves it its identity. It
// must not be in use: fault.ErrInUse, fault.ErrElsewhere.
func (v Volume) Revert(_ context.Context, to Key) error {
	return snapshot.Revert(string(v.SR), to, v.Key)
}
