package repository

import (
	"context"

	"reflinksr/datapath"
	"reflinksr/snapshot/cbt"
)

// Compose lays what was written to the volume over parent, which is gone then. Neither may be
// in use: fault.ErrInUse, fault.ErrElsewhere. A domain that has the volume attached, and does not use it yet, keeps its device.
func (v Volume) Compose(_ context.Context, parent Key) error {
	return datapath.Replacing(string(v.SR), v.Key, func() error { return cbt.Compose(string(v.SR), v.Key, parent) })
}
