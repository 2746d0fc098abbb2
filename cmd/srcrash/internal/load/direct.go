package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"reflinksr/internal/extent"
)

const (
	diskBlocks = 8192 // of a disk under direct writes
	threads    = 4    // that write to it
	kept       = 6    // snapshots of a disk that live on, and are judged again at the end
	byDevice   = 4    // every so many snapshots, one is read from a device
)

// spans are how many blocks, all over the disk, are written to, one after the other in
// the course of a run: the disk has few extents at first and many at the end, and a
// snapshot takes long when there are many.
var spans = []int{64, 512, 2048, diskBlocks}

// taken is a snapshot of a disk under load.
type taken struct {
	call
	disk    disk
	took    time.Duration // the call
	extents int
	verdict verdict
}

// underWrites is the load of direct writes.
func (r *run) underWrites(ctx context.Context, b *bed) (s summary, err error) {
	s = summary{Load: "direct", setup: b.setup, Seed: r.seed}
	d, err := b.create(diskBlocks * blockSize)
	if err != nil {
		return s, err
	}
	p, err := b.plug(d, "1", false)
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := newWriters(diskBlocks, spans[0])
	defer w.done.Wait()
	defer cancel(nil)
	if err := w.start(ctx, p.device, r.seed, threads, func(err error) { cancel(fmt.Errorf("a write failed: %w", err)) }); err != nil {
		return s, err
	}
	var all []taken
	for n := range r.snapshots {
		w.span.Store(int64(spans[n*len(spans)/r.snapshots]))
		if err := w.pace.wait(ctx, int64((n+1)*r.writes/r.snapshots)); err != nil {
			return s, err
		}
		t, err := b.snapshot(w, d)
		if err != nil {
			return s, err
		}
		disk, err := b.read(t.disk, threads, n%byDevice == byDevice-1)
		if err != nil {
			return s, err
		}
		t.verdict = w.history().judge(t.call, disk)
		s.judged(t.verdict, fmt.Sprintf("snapshot %d", n+1))
		all = append(all, t)
		if len(all) > kept {
			if err := b.destroy(all[n-kept].disk); err != nil {
				return s, err
			}
		}
	}
	cancel(nil)
	w.done.Wait()
	h := w.history()
	return s, errors.Join(r.tell(&s, h, all), b.judgeAgain(&s, h, all), b.judgeDisk(&s, w, h, d, p))
}

// snapshot calls for a snapshot of a disk that is being written to.
func (b *bed) snapshot(w *writers, d disk) (t taken, err error) {
	t.call, t.took, err = w.around(func() error {
		t.disk, err = b.derive("Volume.snapshot", d)
		return err
	})
	if err == nil {
		t.extents, err = extents(b.data(t.disk))
	}
	return t, err
}

// extents counts those of a snapshot: they are the ones that its disk had.
func extents(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return extent.Count(f)
}

// read reads a snapshot as its file is, or as a guest sees it.
func (b *bed) read(d disk, writers int, asGuest bool) ([]content, error) {
	if !asGuest {
		return read(b.data(d), writers)
	}
	p, err := b.plug(d, "2", true)
	if err != nil {
		return nil, err
	}
	blocks, err := read(p.device, writers)
	return blocks, errors.Join(err, b.unplug(p))
}

// judgeAgain looks at the snapshots that lived on: nothing that was written
// afterwards may have reached them.
func (b *bed) judgeAgain(s *summary, h history, all []taken) error {
	for _, t := range all[max(0, len(all)-kept):] {
		blocks, err := read(b.data(t.disk), threads)
		if err != nil {
			return err
		}
		s.judged(h.judge(t.call, blocks), "a snapshot, looked at again at the end")
	}
	return nil
}

// judgeDisk looks at the disk itself, which after all this holds every write.
func (b *bed) judgeDisk(s *summary, w *writers, h history, d disk, p plug) error {
	if err := b.unplug(p); err != nil {
		return err
	}
	now := call{began: w.order.next(), ended: w.order.next()}
	blocks, err := read(b.data(d), threads)
	if err != nil {
		return err
	}
	s.judged(h.judge(now, blocks), "the disk itself, at the end")
	return nil
}
