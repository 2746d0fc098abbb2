package track

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// Trace is the trace of one block device, from Open to Close. It is for one goroutine of its user.
type Trace struct {
	root   int    // of tracefs
	name   string // of the instance
	dir    int    // of it
	pipes  []int  // of each processor's buffer
	marker int
	events events

	settings [][2]string // without which events are missing: files and what they hold

	lock    sync.Mutex // of what follows
	page    []byte
	pending []Event // that were read before they were asked for
	failed  error   // of reading them
	stop    chan struct{}
	stopped sync.WaitGroup
}

const (
	instances = "instances"
	prefix    = "reflinksr-"
	// buffersKiB are those of all processors, of which each has at least leastKiB, some 1,700 events, and
	// no more than mostKiB.
	buffersKiB, leastKiB, mostKiB = 64 << 10, 128, 2048
	// pumpPeriod is how often what is there is read, if it is not asked for: whoever traces a disk makes
	// calls that take as long as the disk lets them.
	pumpPeriod = 5 * time.Millisecond
	// pendingLimit bounds the memory for that: 160 MB.
	pendingLimit = 4 << 20
)

var opened atomic.Int64

// Open begins to trace the block device with that number (st_rdev). What an error is ErrUnsupported
// of no trace on this host would end otherwise.
func Open(device uint64) (_ *Trace, err error) {
	t := &Trace{root: -1, dir: -1, marker: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err := membarrier(membarrierQuery); err != nil {
		return nil, err
	}
	if t.root, err = open(); err != nil {
		return nil, err
	}
	sweep(t.root)
	for tries := 0; ; tries++ {
		if err = t.make(); err == nil {
			break
		}
		// Somebody in another PID namespace may have taken it for one that was left.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) || tries == 3 {
			return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		t.closeFiles()
	}
	if err := t.begin(device); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	t.stop = make(chan struct{})
	t.stopped.Go(t.pump)
	return t, nil
}

// make makes the instance, and opens what keeps others from removing it.
func (t *Trace) make() error {
	name := fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), opened.Add(1))
	if err := unix.Mkdirat(t.root, instances+"/"+name, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: "tracefs " + instances + "/" + name, Err: err}
	}
	t.name = name
	dir, err := openDir(t.root, instances+"/"+name)
	if err != nil {
		return err
	}
	t.dir = dir
	processors, err := names(t.dir, "per_cpu")
	if err != nil {
		return err
	}
	for _, name := range processors {
		fd, err := openAt(t.dir, "per_cpu/"+name+"/trace_pipe_raw", unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		t.pipes = append(t.pipes, fd)
	}
	if len(t.pipes) == 0 {
		return errors.New("no processor has a buffer")
	}
	return nil
}

// begin has the device's requests recorded.
func (t *Trace) begin(device uint64) (err error) {
	if t.events, err = readFormats(t.root); err != nil {
		return err
	}
	t.page = make([]byte, t.events.page.size)
	size := max(leastKiB, min(mostKiB, buffersKiB/runtime.NumCPU()))
	for _, setting := range [][2]string{{"options/overwrite", "0"}, {"options/markers", "1"}, {"buffer_size_kb", strconv.Itoa(size)}} {
		if err := writeAt(t.dir, setting[0], setting[1]); err != nil {
			return err
		}
	}
	// The kernel's number of a device has 20 bits for the minor.
	filter := fmt.Sprintf("dev == %d", uint64(unix.Major(device))<<20|uint64(unix.Minor(device)))
	t.settings = [][2]string{
		{"trace_clock", "global"}, // hardly earlier on one processor than it was before on another
		{"tracing_on", "1"},
		{"events/block/block_rq_issue/filter", filter},
		{"events/block/block_rq_complete/filter", filter},
		{"events/block/block_rq_complete/enable", "1"},
		{"events/block/block_rq_issue/enable", "1"},
	}
	for _, setting := range t.settings {
		if err := writeAt(t.dir, setting[0], setting[1]); err != nil {
			return err
		}
	}
	t.marker, err = openAt(t.dir, "trace_marker", unix.O_WRONLY)
	return err
}

func readFormats(root int) (e events, err error) {
	for path, parse := range map[string]func(text string) error{
		"block/block_rq_issue/format":    func(s string) (err error) { e.issued, err = parseRequest(s); return },
		"block/block_rq_complete/format": func(s string) (err error) { e.completed, err = parseRequest(s); return },
		"ftrace/print/format":            func(s string) (err error) { e.mark, _, err = parseFields(s); return },
		"header_page":                    func(s string) (err error) { e.page, err = parsePage(s); return },
	} {
		text, err := readAt(root, "events/"+path)
		if err == nil {
			err = parse(text)
		}
		if err != nil {
			return e, fmt.Errorf("events/%s: %w", path, err)
		}
	}
	return e, nil
}

// pump reads what comes, until Close.
func (t *Trace) pump() {
	tick := time.NewTicker(pumpPeriod)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.lock.Lock()
			t.read()
			t.lock.Unlock()
		}
	}
}

// read reads what there is. The caller has the lock.
func (t *Trace) read() {
	for _, pipe := range t.pipes {
		for t.failed == nil {
			n, err := sys.Retry(func() (int, error) { return unix.Read(pipe, t.page) })
			// ENODEV: a processor that is possible, and not there yet, has no buffer.
			if err == unix.EAGAIN || err == unix.ENODEV || err == nil && n == 0 {
				break
			}
			if err != nil {
				t.failed = fmt.Errorf("%w: reading its trace: %w", ErrUnsupported, err)
				break
			}
			t.failed = t.events.each(t.page[:n], func(e Event) { t.pending = append(t.pending, e) })
			if len(t.pending) > pendingLimit {
				t.failed = ErrLost
			}
		}
	}
}

// Drain calls visit for all events that were recorded before the call, and some that are while
// it runs: those of a processor in order, the processors one after the other. ErrLost if there
// was no room for one.
//
// An event that interrupted the recording of another may be told by a later Drain: see Settle.
func (t *Trace) Drain(visit func(Event)) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.read()
	for _, e := range t.pending {
		visit(e)
	}
	t.pending = t.pending[:0]
	return t.failed
}

// Mark has a later Drain tell of this moment.
func (t *Trace) Mark() error {
	_, err := sys.Retry(func() (int, error) { return unix.Write(t.marker, []byte(prefix)) })
	if err == unix.EBADF {
		return ErrLost // there was no room for it
	}
	if err != nil {
		return fmt.Errorf("%w: marking its trace: %w", ErrUnsupported, err)
	}
	return nil
}

// Settle waits until the next Drain tells of everything whose recording has begun by now: an
// event that interrupts the recording of another is not to be seen before that is done. All
// processors have left what cannot be scheduled away when it returns, which takes some 10 ms.
func (t *Trace) Settle() error { return membarrier(membarrierGlobal) }

// closeFiles closes what is open in the instance.
func (t *Trace) closeFiles() {
	for _, fd := range append(t.pipes, t.marker, t.dir) {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	t.pipes, t.marker, t.dir = nil, -1, -1
}

// Close ends the trace, and leaves nothing of it.
func (t *Trace) Close() (err error) {
	if t.stop != nil {
		close(t.stop)
		t.stopped.Wait()
	}
	t.closeFiles()
	if t.name != "" {
		if err = unix.Unlinkat(t.root, instances+"/"+t.name, unix.AT_REMOVEDIR); err == unix.ENOENT {
			err = nil
		} else if err != nil {
			err = &os.PathError{Op: "rmdir", Path: "tracefs " + instances + "/" + t.name, Err: err}
		}
	}
	if t.root >= 0 {
		unix.Close(t.root)
	}
	return err
}
