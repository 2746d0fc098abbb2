package repository

import (
	"context"

	"reflinksr/snapshot/cbt"
)

// BlockList is ranges of blocks, in order.
type BlockList = cbt.BlockList

// ChangedBlocks is a bitmap of blocks.
type ChangedBlocks = cbt.ChangedBlocks

// Compare tells which blocks of the volume may differ from those of another, the end of the
// longer one included. If that is no relative, or is not there (as "" never is), it is what is
// not empty in the volume.
func (v Volume) Compare(ctx context.Context, with Key) (BlockList, error) {
	return cbt.Compare(ctx, string(v.SR), v.Key, with)
}

// ListChangedBlocks tells which blocks of a relative may differ from those of the volume, from
// the block of the byte offset on, length bytes or, of -1, to its end. fault.ErrNoCBT if it was
// not enabled for both, fault.ErrUnrelated if they do not come from one volume.
func (v Volume) ListChangedBlocks(ctx context.Context, in Key, offset, length int64) (ChangedBlocks, error) {
	return cbt.ListChangedBlocks(ctx, string(v.SR), v.Key, in, offset, length)
}

// SimilarContent lists the volumes that come from the same one as the volume does, nearest first.
func (v Volume) SimilarContent(context.Context) ([]Key, error) {
	return cbt.SimilarContent(string(v.SR), v.Key)
}
