package repository

import (
	"context"

	"reflinksr/snapshot/cbt"
)

// Compose lays what was written to the volume over parent, which is gone then. Neither may be
// in use: fault.ErrInUse, fault.ErrElsewhere.
func (v Volume) Compose(_ context.Context, parent Key) error {
	return cbt.Compose(string(v.SR), v.Key, parent)
}
