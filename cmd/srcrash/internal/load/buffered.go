package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
)

const (
	bufferedBlocks = 4096 // of a disk that is written to through the page cache
	bufferedWrites = 200  // before each snapshot of it
)

// underBuffered is the load of writes that this host has only buffered, as a program
// makes them that has opened the device in the usual way and does not fsync: all that
// were made before the call belong in the snapshot.
func (r *run) underBuffered(ctx context.Context, b *bed) (s summary, err error) {
	d, err := b.create(bufferedBlocks * blockSize)
	if err != nil {
		return s, err
	}
	p, err := b.plugIn(d, "1", false)
	if err != nil {
		return s, err
	}
	f, err := os.OpenFile(p.device, os.O_WRONLY, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	w := newWriters(1)
	under := &field{bed: b, sum: summary{Load: "buffered", setup: b.setup, Seed: r.seed}, writers: w, blocks: bufferedBlocks, disk: d}
	next := mixed(place{writers: 1, stripes: bufferedBlocks / largest, apart: 1})
	random := rand.New(rand.NewPCG(r.seed, 0))
	buffer := make([]byte, largest*blockSize)
	for n := range max(1, r.snapshots/10) {
		for range bufferedWrites {
			if err := ctx.Err(); err != nil {
				return under.sum, err
			}
			if err := w.write(f, buffer, next(random), 0); err != nil {
				return under.sum, err
			}
		}
		t := taken{number: n + 1}
		if err := under.snapshot(ctx, &t, nil); err != nil {
			return under.sum, err
		}
		if err := errors.Join(under.judge(&t), b.destroy(t.disk)); err != nil {
			return under.sum, err
		}
		under.all = append(under.all, t)
	}
	return under.sum, errors.Join(f.Close(), r.tell(&under.sum, w.wrote, under.all), b.unplug(p), b.destroy(d))
}
