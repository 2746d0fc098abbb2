package repository

import (
	"context"

	"reflinksr/snapshot"
	"reflinksr/volume"
)

// Snapshot makes a read-only volume with what the volume holds now, which may be in use.
func (v Volume) Snapshot(context.Context) (VolumeStat, error) {
	return snapshot.Snapshot(string(v.SR), v.Key)
}

// Label is what a new snapshot is called, and the pairs that it has from its beginning.
type Label = volume.Label

// SnapshotAs is Snapshot with a name, a description and pairs of the caller's: at no moment there is a snapshot without them.
// fault.ErrInvalid if they cannot be a volume's, fault.ErrVolumeExists if the key in the label is taken.
func (v Volume) SnapshotAs(_ context.Context, label Label) (VolumeStat, error) {
	return snapshot.Labelled(string(v.SR), v.Key, label)
}

// CloneAs is Clone with a label, as SnapshotAs has it.
func (v Volume) CloneAs(_ context.Context, label Label) (VolumeStat, error) {
	return snapshot.LabelledClone(string(v.SR), v.Key, label)
}

// SectorSize is that of the volume's devices, in bytes.
func (v Volume) SectorSize(context.Context) (int, error) {
	r, _, err := snapshot.CopyOf(string(v.SR), v.Key)
	if err != nil {
		return 0, err
	}
	return r.SectorSize, nil
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
