package load

import (
	"context"
	"errors"
	"fmt"
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
	s = summary{Load: "buffered", setup: b.setup, Seed: r.seed}
	d, err := b.create(bufferedBlocks * blockSize)
	if err != nil {
		return s, err
	}
	p, err := b.plug(d, "1", false)
	if err != nil {
		return s, err
	}
	f, err := os.OpenFile(p.device, os.O_WRONLY, 0)
	if err != nil {
		return s, err
	}
	defer f.Close()
	w := newWriters(bufferedBlocks, bufferedBlocks)
	w.wrote = make(history, 1)
	random := rand.New(rand.NewPCG(r.seed, 0))
	buffer := make([]byte, blockSize)
	var all []taken
	for n := range max(1, r.snapshots/10) {
		for range bufferedWrites {
			if err := ctx.Err(); err != nil {
				return s, err
			}
			block := random.IntN(bufferedBlocks)
			stamp(buffer, block, 0, len(w.wrote[0])+1)
			if err := w.write(f, buffer, write{block: block}, 0); err != nil {
				return s, err
			}
		}
		t, err := b.snapshot(w, d)
		if err != nil {
			return s, err
		}
		disk, err := b.read(t.disk, 1, n%byDevice == byDevice-1)
		if err != nil {
			return s, err
		}
		t.verdict = w.wrote.judge(t.call, disk)
		s.judged(t.verdict, fmt.Sprintf("snapshot %d of a disk with writes in the page cache", n+1))
		if err := b.destroy(t.disk); err != nil {
			return s, err
		}
		all = append(all, t)
	}
	return s, errors.Join(f.Close(), r.tell(&s, w.wrote, all), b.unplug(p))
}
