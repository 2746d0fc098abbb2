package repository

import (
	"context"

	"reflinksr/snapshot/cbt"
)

// EnableCBT lets changed blocks be asked for between the snapshots to come of the volume:
// fault.ErrNoExtents on NFS.
func (v Volume) EnableCBT(context.Context) error { return cbt.EnableCBT(string(v.SR), v.Key) }

// DisableCBT ends that. The snapshots there are keep it.
func (v Volume) DisableCBT(context.Context) error { return cbt.DisableCBT(string(v.SR), v.Key) }
