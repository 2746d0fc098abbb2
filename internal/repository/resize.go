package repository

import (
	"context"

	"reflinksr/volume"
)

// Resize makes the volume at least size bytes long, at once also for a guest that has it. It
// never shrinks: fault.ErrSize.
func (v Volume) Resize(_ context.Context, size int64) error {
	return volume.Resize(string(v.SR), v.Key, size)
}
