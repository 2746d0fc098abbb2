package repository

import (
	"context"
	"errors"
	"fmt"

	"reflinksr/volume"
)

// Sink takes a disk from its beginning to its end.
type Sink = volume.Sink

// Export gives a sink what the volume holds now, by way of a snapshot, of which nothing is left
// however it ends. It returns the size of the disk in bytes. moved is told of the progress.
//
// When ctx ends it ends with the cause, and does not wait for a sink that takes nothing more:
// whoever ends it uses the sink no more.
func (v Volume) Export(ctx context.Context, to Sink, moved func(done, total int64)) (size int64, err error) {
	return v.ExportTo(ctx, func(int64) (Sink, int64, error) { return to, 0, nil }, moved)
}

// ExportTo is Export to a sink that must know the size of the disk, in bytes, before it takes anything. begin says how many bytes of
// the disk the sink has already, which can only be of a volume that cannot be written to.
//
// What it holds is kept for as long as it is read, by a file without a name: nothing stays behind, however this ends. Of a volume that
// can be written to that is of a snapshot, which is destroyed before anything is read.
func (v Volume) ExportTo(ctx context.Context, begin func(size int64) (to Sink, from int64, err error), moved func(done, total int64)) (size int64, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err // a snapshot for nothing would hold up the guest
	}
	d, err := v.kept(ctx)
	if err != nil {
		return 0, err
	}
	to, from, err := begin(d.ToSize)
	if err != nil {
		d.Data.Close()
		return 0, err
	}
	return d.ToSize, abandoning(ctx, func() error {
		defer d.Data.Close() // whoever abandons this still reads it
		return volume.CopyFile(ctx, d.Data, d.ToSize, from, to, moved)
	})
}

// kept keeps what the volume holds now.
func (v Volume) kept(ctx context.Context) (*Delta, error) {
	st, err := v.Stat(ctx)
	if err != nil {
		return nil, err
	}
	if !st.ReadWrite {
		return v.DeltaSince(ctx, "")
	}
	made, err := v.SnapshotAs(ctx, Label{Name: st.Name, Description: "made to read the disk, and of no use any more: whoever was to destroy it was killed"})
	if err != nil {
		return nil, err
	}
	d, err := Volume{v.SR, made.Key}.DeltaSince(ctx, "")
	if e := (Volume{v.SR, made.Key}).Destroy(context.WithoutCancel(ctx)); e != nil {
		err = errors.Join(err, fmt.Errorf("the snapshot %s stays behind: %w", made.Key, e))
	}
	if err != nil && d != nil {
		d.Data.Close()
	}
	return d, err
}

// abandoning waits for do, or for the end of ctx, of which the cause is the error then.
func abandoning(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
