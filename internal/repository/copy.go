package repository

import (
	"context"
	"errors"

	"reflinksr/internal/fault"
	"reflinksr/snapshot"
	"reflinksr/volume"
)

// CreateFrom makes a volume of n.Size bytes that holds what give gives to a sink; if that fails nothing is left behind.
func (s SR) CreateFrom(_ context.Context, n NewVolume, give func(Sink) error) (VolumeStat, error) {
	r := &volume.Record{Name: n.Name, Description: n.Description, ReadWrite: true, Sharable: n.Sharable, SectorSize: n.SectorSize}
	return volume.CreateFrom(string(s), r, n.Size, give)
}

// CopyTo makes a writable volume in another SR with what the volume holds now, which may be in use: by sharing blocks where both
// are on one filesystem, else byte by byte, of which moved is told, and the end of ctx leaves nothing behind.
func (v Volume) CopyTo(ctx context.Context, to SR, moved func(done, total int64)) (VolumeStat, error) {
	made, err := v.Copy(ctx, to)
	if !errors.Is(err, fault.ErrOtherFS) {
		return made, err
	}
	r, size, err := snapshot.CopyOf(string(v.SR), v.Key)
	if err != nil {
		return VolumeStat{}, err
	}
	return volume.CreateFrom(string(to), r, size, func(sink Sink) error {
		_, err := v.Export(ctx, sink, moved)
		return err
	})
}
