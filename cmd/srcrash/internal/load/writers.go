package load

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// writers is several threads that write to a device at once.
type writers struct {
	order  order
	blocks int          // of the disk
	span   atomic.Int64 // how many of them, all over the disk, are written to
	pace   pace
	lock   sync.Mutex
	wrote  history
	failed func(error)
	done   sync.WaitGroup
}

// start starts them. A write that fails is told to failed.
func (w *writers) start(ctx context.Context, device string, seed uint64, n int, failed func(error)) error {
	w.wrote, w.failed = make(history, n), failed
	for i := range n {
		// Each has its own opening, and is acknowledged by the disk, not by the page cache.
		f, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		w.done.Go(func() {
			defer f.Close()
			w.run(ctx, f, i, n, rand.New(rand.NewPCG(seed, uint64(i))))
		})
	}
	return nil
}

// run is one writer: of n writers, only it writes to every n-th block.
func (w *writers) run(ctx context.Context, f *os.File, writer, n int, random *rand.Rand) {
	b := aligned(blockSize)
	for number := 1; ctx.Err() == nil; number++ {
		span := int(w.span.Load())
		block := random.IntN(span/n)*(w.blocks/span)*n + writer
		stamp(b, block, writer, number)
		if err := w.write(f, b, write{block: block}, writer); err != nil {
			w.failed(err)
			return
		}
	}
}

// write makes one write and records it: as issued before it is, and as acknowledged
// after that.
func (w *writers) write(f *os.File, b []byte, one write, writer int) error {
	w.lock.Lock()
	one.issued = w.order.next()
	w.wrote[writer] = append(w.wrote[writer], one)
	at := len(w.wrote[writer]) - 1
	w.lock.Unlock()
	start := time.Now()
	if _, err := f.WriteAt(b, int64(one.block)*blockSize); err != nil {
		return err
	}
	took := time.Since(start)
	w.lock.Lock()
	w.wrote[writer][at].took = took
	w.wrote[writer][at].acked = w.order.next()
	w.lock.Unlock()
	w.pace.step()
	return nil
}

// history is what has been written until now. What is acknowledged later is not in it.
func (w *writers) history() history {
	w.lock.Lock()
	defer w.lock.Unlock()
	copied := make(history, len(w.wrote))
	for i, all := range w.wrote {
		copied[i] = append([]write(nil), all...)
	}
	return copied
}

// pace lets one thread wait until others have made so many steps.
type pace struct {
	made, wanted atomic.Int64
	reached      chan struct{}
}

func newPace() pace { return pace{reached: make(chan struct{}, 1)} }

func (p *pace) step() {
	if p.made.Add(1) >= p.wanted.Load() {
		select {
		case p.reached <- struct{}{}:
		default:
		}
	}
}

func (p *pace) wait(ctx context.Context, steps int64) error {
	p.wanted.Store(steps)
	for p.made.Load() < steps {
		select {
		case <-p.reached:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// newWriters are writers to a disk of so many blocks. Those and span are powers of two.
func newWriters(blocks, span int) *writers {
	w := &writers{blocks: blocks, pace: newPace()}
	w.span.Store(int64(span))
	return w
}

// around records the call do in the order of the writes.
func (w *writers) around(do func() error) (c call, took time.Duration, err error) {
	c.began = w.order.next()
	start := time.Now()
	err = do()
	took = time.Since(start)
	c.ended = w.order.next()
	return c, took, err
}
