package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/extent"
)

const (
	growingBlocks  = 8192 // of a disk that is in few pieces at first
	growingWriters = 4
	kept           = 6 // snapshots of a disk that live on, and are judged again at the end
	byDevice       = 4 // every so many snapshots, one is read from a device
	fromNothing    = 5 // every so many snapshots, one has no earlier one to start from
)

// The time in which no snapshot is taken, to compare with: as long as the call before took, within these.
const (
	leastControl = 100 * time.Millisecond
	mostControl  = 5 * time.Second
)

// field is a disk under load.
type field struct {
	*bed
	seed    uint64
	sum     summary
	writers *writers
	blocks  int
	disk    disk
	plug    plug
	random  *rand.Rand
	live    []taken // snapshots that are there
	all     []taken
	last    time.Duration // that a call took
}

// taken is a snapshot of a disk under load.
type taken struct {
	call
	way
	number  int
	control call // the time before, without a snapshot
	disk    disk
	took    time.Duration // the call
	extents int           // of the disk, before
	verdict verdict
}

// underWrites is the load of direct writes to a disk that is in few pieces at first and in many at the end.
func (r *run) underWrites(ctx context.Context, b *bed) (_ summary, err error) {
	var span atomic.Int64
	span.Store(int64(spans[0]))
	var choices []choose
	for i := range growingWriters {
		choices = append(choices, growing(&span, i, growingWriters))
	}
	f := &field{bed: b, blocks: growingBlocks, seed: r.seed, sum: summary{Load: "direct", setup: b.setup, Seed: r.seed}}
	return r.sow(ctx, f, choices, 0, func(ctx context.Context) error {
		for n := range r.snapshots {
			span.Store(int64(spans[n*len(spans)/r.snapshots]))
			if err := f.writers.pace.wait(ctx, int64((n+1)*r.writes/r.snapshots)); err != nil {
				return err
			}
			if err := f.round(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// under is the load of a shape, on a disk that is in many pieces.
func (r *run) under(s shape) load {
	return func(ctx context.Context, b *bed) (summary, error) {
		s.writers, s.iops = cmp.Or(r.writers, s.writers), cmp.Or(r.iops, s.iops)
		f := &field{bed: b, blocks: fragmentedBlocks(r.extents), seed: r.seed, sum: summary{Load: s.name, setup: b.setup, Seed: r.seed}}
		f.sum.MustPreCopy = s.disturb == nil && b.preCopied(r.extents)
		var choices []choose
		for i := range s.writers {
			choices = append(choices, s.next(place{i, s.writers, f.blocks / largest, livesApart}))
		}
		return r.sow(ctx, f, choices, s.iops, func(ctx context.Context) error {
			if s.disturb != nil {
				return f.disturbed(ctx, s.disturb(f), max(1, r.snapshots/5))
			}
			for range r.snapshots {
				if err := f.round(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// sow makes a disk, has it written to while snap takes and judges snapshots, and looks at everything again
// in the end.
func (r *run) sow(ctx context.Context, f *field, choices []choose, iops int, snap func(context.Context) error) (_ summary, err error) {
	n := len(choices)
	f.writers = newWriters(n + 2) // and who has made it what it was at first, and who writes past the device
	f.random = rand.New(rand.NewPCG(r.seed, 1<<32))
	if f.disk, err = f.create(int64(f.blocks) * blockSize); err != nil {
		return f.sum, err
	}
	if f.sum.Load != "direct" {
		if err := f.fragment(r.extents); err != nil {
			return f.sum, err
		}
	}
	if f.plug, err = f.plugIn(f.disk, "1", false); err != nil {
		return f.sum, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer f.writers.stop()
	defer cancel(nil)
	if err := f.writers.start(ctx, f.plug.device, r.seed, iops, choices, func(err error) { cancel(fmt.Errorf("a write failed: %w", err)) }); err != nil {
		return f.sum, err
	}
	if err := snap(ctx); err != nil {
		return f.sum, err
	}
	cancel(nil)
	f.writers.stop()
	h := f.writers.history()
	return f.sum, errors.Join(r.tell(&f.sum, h, f.all), f.judgeAgain(h), f.judgeDisk(h), f.clear())
}

// round takes a snapshot, which somebody may disturb, and judges it.
func (f *field) round(ctx context.Context, d *disturbs) error {
	t := taken{number: len(f.all) + 1}
	if t.number%fromNothing == 0 {
		if err := f.destroyDownTo(0); err != nil {
			return err
		}
	}
	var err error
	if t.extents, err = extents(f.data(f.disk)); err != nil {
		return err
	}
	if t.control, err = f.without(ctx); err != nil {
		return err
	}
	if err := f.snapshot(ctx, &t, d); err != nil {
		return err
	}
	if t.disk.Key != "" {
		if err := f.judge(&t); err != nil {
			return err
		}
		f.live = append(f.live, t)
	}
	f.all = append(f.all, t)
	if t.way != killed {
		f.last = t.took
	}
	return f.destroyDownTo(kept)
}

// without lets the disk be written to for a while.
func (f *field) without(ctx context.Context) (call, error) {
	c, _, err := f.writers.around(func() error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(max(f.last, leastControl), mostControl)):
			return nil
		}
	})
	return c, err
}

// snapshot makes the call.
func (f *field) snapshot(ctx context.Context, t *taken, d *disturbs) (err error) {
	c := f.plugin.Command(rig.OfVolume("Volume.snapshot", f.handle, f.disk.Key))
	callCtx, end := context.WithCancel(context.Background()) // a run that is stopped waits for its call
	defer end()
	var wait func() error
	if d != nil {
		c.Started = func(p *os.Process) { wait = d.begin(ctx, callCtx, p, end) }
	}
	pid := 0
	t.call, t.took, err = f.writers.around(func() error {
		out := c.Run(callCtx)
		pid = out.PID
		err := rig.Judge("Volume.snapshot", out, &t.disk)
		if callCtx.Err() != nil && out.Err != nil && t.disk.Key == "" {
			t.way, err = killed, nil
		}
		return err
	})
	end()
	if wait != nil {
		err = errors.Join(err, wait())
	}
	if err == nil && t.way != killed {
		t.way, err = f.wayOf(pid)
	}
	return err
}

// judge reads a snapshot and holds it against what was written.
func (f *field) judge(t *taken) error {
	blocks, err := f.read(t.disk, len(f.writers.wrote), t.number%byDevice == 0)
	if err != nil {
		return err
	}
	if len(blocks) != f.blocks {
		return fmt.Errorf("snapshot %s has %d blocks, its disk %d", t.disk.Key, len(blocks), f.blocks)
	}
	t.verdict = f.writers.history().judge(t.call, blocks)
	f.sum.judged(t.verdict, fmt.Sprintf("snapshot %d, by %v", t.number, t.way))
	return nil
}

func (f *field) destroyDownTo(n int) error {
	for len(f.live) > n {
		if err := f.destroy(f.live[0].disk); err != nil {
			return err
		}
		f.live = f.live[1:]
	}
	return nil
}

// extents counts those of a disk, without waiting for what is not written yet.
func extents(path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for cursor := extent.NewCursorAsIs(f, 0); ; n++ {
		if _, ok, err := cursor.Next(); err != nil || !ok {
			return n, err
		}
	}
}

// read reads a snapshot as its file is, or as a guest sees it.
func (b *bed) read(d disk, writers int, asGuest bool) ([]content, error) {
	if !asGuest {
		return read(b.data(d), writers)
	}
	p, err := b.plugIn(d, "2", true)
	if err != nil {
		return nil, err
	}
	blocks, err := read(p.device, writers)
	return blocks, errors.Join(err, b.unplug(p))
}

// judgeAgain looks at the snapshots that lived on: nothing that was written
// afterwards may have reached them.
func (f *field) judgeAgain(h history) error {
	for _, t := range f.live {
		blocks, err := read(f.data(t.disk), len(h))
		if err != nil {
			return err
		}
		f.sum.judged(h.judge(t.call, blocks), fmt.Sprintf("snapshot %d, looked at again at the end", t.number))
	}
	return nil
}

// judgeDisk looks at the disk itself, which after all this holds every write.
func (f *field) judgeDisk(h history) error {
	if err := f.unplug(f.plug); err != nil {
		return err
	}
	now := call{began: f.writers.order.next(), ended: f.writers.order.next()}
	blocks, err := read(f.data(f.disk), len(h))
	if err != nil {
		return err
	}
	f.sum.judged(h.judge(now, blocks), "the disk itself, at the end")
	return nil
}

// clear makes room for the next disk.
func (f *field) clear() error { return errors.Join(f.destroyDownTo(0), f.destroy(f.disk)) }
