package repository

import (
	"context"

	"reflinksr/volume"
)

// Compaction is what it costs and brings to compact a volume, or has.
type Compaction = volume.Compaction

// PlanCompaction tells what Compact would do: fault.ErrNoExtents on NFS.
func (v Volume) PlanCompaction(_ context.Context, percent int) (Compaction, error) {
	return volume.PlanCompaction(string(v.SR), v.Key, percent)
}

// Compact gives back what btrfs keeps of extents that the volume uses only a part of, by writing that part anew;
// only of extents of which at least so many percent are of no use, and that no other volume shares. On XFS there is none. The volume
// must not be in use: fault.ErrInUse, fault.ErrElsewhere. moved is told how many bytes of how many are
// written. What was done until ctx ends stays done, and counts.
func (v Volume) Compact(ctx context.Context, percent int, moved func(done, total int64)) (Compaction, error) {
	return volume.Compact(ctx, string(v.SR), v.Key, percent, moved)
}
