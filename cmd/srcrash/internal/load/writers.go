package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writers is several threads that write to a device at once.
type writers struct {
	order order
	pace  pace
	gate  sync.RWMutex // whoever changes the device holds it
	lock  sync.Mutex
	wrote history
	done  sync.WaitGroup
	files []*os.File // of each
}

func newWriters(n int) *writers { return &writers{pace: newPace(), wrote: make(history, n)} }

// choose tells a writer what to do next.
type choose func(random *rand.Rand) write

// start starts one for each choice, with at most iops operations in a second of all of them (0: as many
// as there can be). One that fails is told to failed.
func (w *writers) start(ctx context.Context, device string, seed uint64, iops int, choices []choose, failed func(error)) error {
	if err := w.open(device, len(choices)); err != nil {
		return err
	}
	for i, next := range choices {
		w.done.Go(func() {
			if err := w.run(ctx, i, float64(iops)/float64(len(choices)), next, rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
				failed(err)
			}
		})
	}
	return nil
}

// open opens a device for n writers. Each has its own opening, and is acknowledged by the disk, not by the
// page cache.
func (w *writers) open(device string, n int) error {
	for range n {
		f, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			w.close()
			return err
		}
		w.files = append(w.files, f)
	}
	return nil
}

func (w *writers) close() {
	for _, f := range w.files {
		f.Close()
	}
	w.files = nil
}

// elsewhere has them write to what change makes of their device, while which none writes.
func (w *writers) elsewhere(change func() (device string, err error)) error {
	w.gate.Lock()
	defer w.gate.Unlock()
	n := len(w.files)
	w.close()
	device, err := change()
	if err != nil {
		return err
	}
	return w.open(device, n)
}

// stop waits for all of them, after the end of start's context.
func (w *writers) stop() {
	w.done.Wait()
	w.close()
}

// run is one writer.
func (w *writers) run(ctx context.Context, writer int, iops float64, next choose, random *rand.Rand) error {
	b := aligned(largest * blockSize)
	due := time.Now()
	for ctx.Err() == nil {
		if iops > 0 {
			due = due.Add(time.Duration(random.ExpFloat64() * float64(time.Second) / iops))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Until(due)):
			}
			if time.Since(due) > time.Second {
				due = time.Now()
			}
		}
		w.gate.RLock()
		err := error(nil)
		if writer < len(w.files) { // else the device is gone, which has been told
			err = w.write(w.files[writer], b, next(random), writer)
		}
		w.gate.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// write does one operation and records it: as issued before it is, and as acknowledged
// after that.
func (w *writers) write(f *os.File, b []byte, one write, writer int) error {
	w.lock.Lock()
	number := len(w.wrote[writer]) + 1
	w.lock.Unlock()
	if one.kind == written {
		for i := range one.blocks {
			stamp(b[i*blockSize:(i+1)*blockSize], one.block+i, writer, number)
		}
	}
	w.lock.Lock()
	one.issued = w.order.next()
	w.wrote[writer] = append(w.wrote[writer], one)
	w.lock.Unlock()
	start := time.Now()
	if err := one.do(f, b); err != nil {
		return err
	}
	took := time.Since(start)
	w.lock.Lock()
	w.wrote[writer][number-1].took = took
	w.wrote[writer][number-1].acked = w.order.next()
	w.lock.Unlock()
	w.pace.step()
	return nil
}

// do does it to a device, or (if it is a write) to a file.
func (one write) do(f *os.File, b []byte) error {
	at, length := int64(one.block)*blockSize, int64(one.blocks)*blockSize
	switch one.kind {
	case discarded:
		return ioctlRange(f, unix.BLKDISCARD, at, length)
	case zeroed:
		return ioctlRange(f, unix.BLKZEROOUT, at, length)
	}
	_, err := f.WriteAt(b[:length], at)
	return err
}

func ioctlRange(f *os.File, request uintptr, at, length int64) error {
	r := [2]uint64{uint64(at), uint64(length)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("ioctl %#x of %s: %w", request, f.Name(), errno)
	}
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

// around records the call do in the order of the writes.
func (w *writers) around(do func() error) (c call, took time.Duration, err error) {
	c.began = w.order.next()
	start := time.Now()
	err = do()
	took = time.Since(start)
	c.ended = w.order.next()
	return c, took, err
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
