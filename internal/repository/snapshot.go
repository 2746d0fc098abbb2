package repository

import (
	"context"

	"reflinksr/snapshot"
)

// Snapshot makes a read-only volume with what the volume holds now, which may be in use.
func (v Volume) Snapshot(context.Context) (VolumeStat, error) {
	return snapshot.Snapshot(string(v.SR), v.Key)
}

// Clone makes a writable volume with what the volume holds now, which may be in use.
func (v Volume) Clone(context.Context) (VolumeStat, error) {
	return snapshot.Clone(string(v.SR), v.Key)
}

// Copy makes a writable volume in another SR, by sharing blocks: fault.ErrOtherFS if that is on
// another filesystem. The bytes are for the caller to copy then.
func (v Volume) Copy(_ context.Context, to SR) (VolumeStat, error) {
	return snapshot.Copy(string(v.SR), v.Key, string(to))
}
