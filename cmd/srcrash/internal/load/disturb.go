package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/smapi"
)

// disturbs is what befalls the calls for a snapshot of one disk.
type disturbs struct {
	f      *field
	random *rand.Rand
	// do is what is done while a call runs. It says whether it was in time.
	do func(a attack) (inTime bool, err error)
	// after is done when the call has ended; nil: nothing.
	after func() error
	pids  []int // of the calls
	hit   int   // how many of them it was in time for
}

// attack is one call that is disturbed.
type attack struct {
	ctx     context.Context // of the run
	over    context.Context // ends with the call
	process *os.Process     // of the call
	end     func()          // kills it
}

// begin disturbs a call. wait waits until that is done.
func (d *disturbs) begin(ctx, over context.Context, p *os.Process, end func()) (wait func() error) {
	d.pids = append(d.pids, p.Pid)
	done := make(chan error, 1)
	go func() {
		inTime, err := d.do(attack{ctx, over, p, end})
		if inTime {
			d.hit++
		}
		done <- err
	}()
	return func() error {
		err := <-done
		if err == nil && d.after != nil {
			err = d.after()
		}
		return err
	}
}

// moreTries is how many calls more are disturbed until it was in time once: each may be over sooner than is expected.
const moreTries = 20

// disturbed disturbs n calls. After each the next must be right, and nothing of it be left.
func (f *field) disturbed(ctx context.Context, d *disturbs, n int) error {
	d.f, d.random = f, f.random
	if err := f.mountTracing(); err != nil {
		return err
	}
	for try := 0; try < n || d.hit == 0 && try < n+moreTries; try++ {
		before, err := f.keys()
		if err != nil {
			return err
		}
		if err := f.round(ctx, d); err != nil {
			return err
		}
		if f.all[len(f.all)-1].way == killed {
			if err := f.afterKill(before); err != nil {
				return err
			}
		}
		if err := f.round(ctx, nil); err != nil {
			return err
		}
		if err := f.nothingLeft(d.pids); err != nil {
			return err
		}
	}
	f.sum.Disturbed = d.hit
	if d.hit == 0 {
		return fmt.Errorf("%s: none of %d calls was still under way when it was to be disturbed", f.sum.Load, n+moreTries)
	}
	return nil
}

// afterKill judges a snapshot that nobody was told of, and lets the SR put itself in order.
func (f *field) afterKill(before map[string]bool) error {
	// As after the host was started again: nothing is taken from a disk in use.
	if err := f.plugin.Call(smapi.SRAttach{Configuration: f.configuration}, nil); err != nil {
		return err
	}
	now, err := f.keys()
	if err != nil {
		return err
	}
	for key := range now {
		if before[key] {
			continue
		}
		t := f.all[len(f.all)-1]
		t.disk = disk{Key: key}
		t.number *= byDevice + 1 // it is read as a file: it has no URI
		if err := errors.Join(f.judge(&t), f.destroy(t.disk)); err != nil {
			return err
		}
		f.sum.Committed++
	}
	return nil
}

// keys are those of all volumes.
func (f *field) keys() (map[string]bool, error) {
	var all []disk
	err := f.plugin.Call(smapi.SRLs{SR: f.handle}, &all)
	keys := map[string]bool{}
	for _, d := range all {
		keys[d.Key] = true
	}
	return keys, err
}

// nothingLeft looks for traces of calls, and staged files.
func (f *field) nothingLeft(pids []int) error {
	for _, pid := range pids {
		if f.traces(pid) {
			return fmt.Errorf("%s: violation: the trace of process %d, which has ended, is still there after the next call", f.sum.Load, pid)
		}
	}
	staging := filepath.Join(f.fs.Dir, layout.ControlDir, "staging")
	staged, err := os.ReadDir(staging)
	if err == nil && len(staged) > 0 {
		err = fmt.Errorf("%s: violation: %d staged files are left in %s: %v", f.sum.Load, len(staged), staging, staged)
	}
	return err
}

func (b *bed) tracing() string { return filepath.Join(b.fs.Dir+".in", "tracing") }

func (b *bed) mountTracing() error {
	if err := os.MkdirAll(b.tracing(), 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tracefs", b.tracing(), "tracefs", 0, ""); err != nil && err != unix.EBUSY {
		return &os.PathError{Op: "mount", Path: b.tracing(), Err: err}
	}
	return nil
}

// instances are the traces of a process.
func (b *bed) instances(pid int) []string {
	all, _ := filepath.Glob(fmt.Sprintf("%s/instances/reflinksr-%d-*", b.tracing(), pid))
	return all
}

func (b *bed) traces(pid int) bool { return len(b.instances(pid)) > 0 }

// traced waits until the call traces the disk's device, and a moment more. It answers "" if the call ended before.
func (d *disturbs) traced(a attack, more time.Duration) (instance string) {
	for a.over.Err() == nil {
		for _, one := range d.f.instances(a.process.Pid) {
			// What is enabled last.
			if text, err := os.ReadFile(filepath.Join(one, "events/block/block_rq_issue/enable")); err == nil && text[0] == '1' {
				time.Sleep(d.upTo(more))
				return one
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	return ""
}

func (d *disturbs) upTo(most time.Duration) time.Duration {
	return time.Duration(d.random.Int64N(int64(most)))
}

// loseEvents leaves a call's trace little room, and stops the call while the disk is written to.
func loseEvents(f *field) *disturbs {
	const some = 2000 // writes, whose events fill all of it
	d := &disturbs{}
	d.do = func(a attack) (inTime bool, err error) {
		instance := d.traced(a, time.Millisecond)
		if instance == "" {
			return false, nil
		}
		if err := os.WriteFile(filepath.Join(instance, "buffer_size_kb"), []byte("4"), 0); err != nil {
			return false, nil // it is over
		}
		if a.process.Signal(unix.SIGSTOP) != nil {
			return false, nil
		}
		defer a.process.Signal(unix.SIGCONT)
		return true, f.writers.pace.wait(a.ctx, f.writers.pace.made.Load()+some)
	}
	return d
}

// reattach detaches the disk and attaches it again, while whoever writes to it waits. Of two calls, one waits as well: else
// a disk that takes long to be detached may always outlast it.
func reattach(f *field) *disturbs {
	d := &disturbs{}
	d.do = func(a attack) (inTime bool, err error) {
		if d.traced(a, 20*time.Millisecond) == "" {
			return false, nil
		}
		if d.random.IntN(2) == 0 && a.process.Signal(unix.SIGSTOP) == nil {
			defer a.process.Signal(unix.SIGCONT)
		}
		err = f.writers.elsewhere(func() (string, error) {
			if err := f.unplug(f.plug); err != nil {
				return "", err
			}
			var err error
			f.anew = true
			f.plug, err = f.plugIn(f.disk, "1", false)
			return f.plug.device, err
		})
		return a.over.Err() == nil, err
	}
	return d
}

// secondDevice binds another device to the disk's file, and writes by it what the trace does not see.
func secondDevice(f *field) *disturbs {
	var device loop.Device
	d := &disturbs{}
	release := func() error {
		if device == (loop.Device{}) {
			return nil
		}
		bound := device
		device = loop.Device{}
		return bound.Release()
	}
	d.after = release
	d.do = func(a attack) (inTime bool, err error) {
		if d.traced(a, 20*time.Millisecond) == "" {
			return false, nil
		}
		file, err := os.OpenFile(f.data(f.disk), os.O_RDWR, 0)
		if err != nil {
			return false, err
		}
		device, err = loop.Attach(loop.Config{File: file, SectorSize: blockSize, DirectIO: f.setup.DirectIO, Name: "srcrash-second"})
		if err = errors.Join(err, file.Close()); err != nil {
			return false, err
		}
		info, err := device.Info()
		if err != nil {
			return false, err
		}
		if info.DirectIO != f.setup.DirectIO {
			return false, fmt.Errorf("%s has direct I/O %v, the disk's other device %v: their writes would not be each other's", device.Path(), info.DirectIO, f.setup.DirectIO)
		}
		if err := f.writeBy(device, d.random); err != nil {
			return false, err
		}
		inTime = a.over.Err() == nil
		if d.random.IntN(2) == 0 { // else it is there when the call ends
			return inTime, release()
		}
		return inTime, nil
	}
	return d
}

// writeBy writes by another device where nobody else does.
func (f *field) writeBy(device loop.Device, random *rand.Rand) error {
	const some = 50
	file, err := os.OpenFile(device.Path(), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := aligned(blockSize)
	for range some {
		stripe := random.IntN(f.blocks/largest/livesApart)*livesApart + 1
		one := write{block: stripe*largest + random.IntN(largest), blocks: 1}
		if err := f.writers.write(file, buffer, one, len(f.writers.wrote)-1); err != nil {
			return err
		}
	}
	return nil
}

// kill kills the call, at any time from its beginning to a while after it would have ended.
func kill(f *field) *disturbs {
	d := &disturbs{}
	d.do = func(a attack) (inTime bool, err error) {
		select {
		case <-a.over.Done():
			return false, nil
		case <-time.After(d.upTo(f.last + f.last/4 + time.Millisecond)):
		}
		a.end()
		return true, nil
	}
	return d
}
