package scripts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// block is what the background writer writes at a time, in bytes.
const block = 4096

// writer writes numbered blocks, one after the other, going round on the first
// span blocks of a disk; each is acknowledged before the next is begun. What a
// disk holds at one moment is therefore a prefix: the newest span numbers without
// a gap.
type writer struct {
	f     *os.File
	acked atomic.Uint64        // number of the newest acknowledged block, from 1
	told  func(n uint64) error // of each; may be nil
	stop  chan struct{}
	once  sync.Once
	done  chan error
}

// span is how many blocks the writer goes round on.
const span = 2048

// aligned is a buffer that direct I/O accepts.
func aligned() []byte {
	b := make([]byte, 2*block)
	skip := block - int(uintptr(unsafe.Pointer(&b[0]))%block)
	return b[skip : skip+block]
}

func (w *writer) run() {
	b := aligned()
	for n := uint64(1); ; n++ {
		select {
		case <-w.stop:
			w.done <- w.f.Close()
			return
		default:
		}
		for i := 0; i < block; i += 8 {
			binary.LittleEndian.PutUint64(b[i:], n)
		}
		if _, err := w.f.WriteAt(b, int64((n-1)%span)*block); err != nil {
			w.f.Close()
			w.done <- err
			return
		}
		w.acked.Store(n)
		if w.told != nil {
			if err := w.told(n); err != nil {
				w.done <- err
				return
			}
		}
	}
}

// Write writes to a device until the process ends, and keeps the number of the newest
// acknowledged block in a file: the writer of a guest.
func Write(device, acked string) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	note, err := os.OpenFile(acked, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	w := &writer{f: f, stop: make(chan struct{}), done: make(chan error, 1)}
	w.told = func(n uint64) error {
		_, err := note.WriteAt(fmt.Appendf(nil, "%20d\n", n), 0)
		return err
	}
	go w.run()
	return <-w.done
}

func (w *writer) halt() error {
	var err error
	w.once.Do(func() {
		close(w.stop)
		err = <-w.done
	})
	return err
}

// writer is the verb.
func (s *script) writer(_ bool, args []string) error {
	if len(args) < 2 {
		return usage("writer")
	}
	if args[0] == "check" && args[1] == "each" {
		if len(args) != 2 || len(s.marks) == 0 {
			return errors.New("no snapshot was marked: there is nothing to check")
		}
		for _, key := range slices.Sorted(maps.Keys(s.marks)) {
			if err := s.checkPrefix(key, s.marks[key]); err != nil {
				return fmt.Errorf("snapshot %s: %w", key, err)
			}
		}
		s.tell("%d snapshots are whole", len(s.marks))
		return nil
	}
	if args[0] == "check" {
		if len(args) != 3 || s.marks[args[2]] == 0 {
			return usage("writer")
		}
		return s.checkPrefix(args[1], s.marks[args[2]])
	}
	key := args[1]
	w := s.writing[key]
	switch args[0] {
	case "start":
		if len(s.plugs[key]) == 0 {
			return fmt.Errorf("%s is not plugged", key)
		}
		f, err := os.OpenFile(s.plugs[key][0].device, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		w = &writer{f: f, stop: make(chan struct{}), done: make(chan error, 1)}
		if s.writing == nil {
			s.writing = map[string]*writer{}
		}
		s.writing[key] = w
		go w.run()
		// Something is acknowledged before the scenario goes on.
		for w.acked.Load() == 0 {
			select {
			case err := <-w.done:
				return fmt.Errorf("the first write: %w", err)
			default:
			}
		}
	case "mark":
		if w == nil {
			return fmt.Errorf("nobody writes to %s", key)
		}
		s.marks[key] = w.acked.Load()
	case "stop":
		if w == nil {
			return fmt.Errorf("nobody writes to %s", key)
		}
		if err := w.halt(); err != nil {
			return err
		}
		s.tell("%d writes acknowledged", w.acked.Load())
	default:
		return usage("writer")
	}
	return nil
}

// checkPrefix reads a snapshot and finds the newest write in it: all before it
// must be there, and it must not be older than the mark.
func (s *script) checkPrefix(key string, mark uint64) error {
	return s.withDevice(key, true, func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		numbers := make([]uint64, span)
		newest := uint64(0)
		all := make([]byte, span*block)
		if _, err := f.ReadAt(all, 0); err != nil {
			return err
		}
		for i := range numbers {
			b := all[i*block:][:block]
			n := binary.LittleEndian.Uint64(b)
			for j := 8; j < block; j += 8 {
				if binary.LittleEndian.Uint64(b[j:]) != n {
					return fmt.Errorf("block %d is torn: half of write %d and half of %d", i, n, binary.LittleEndian.Uint64(b[j:]))
				}
			}
			numbers[i] = n
			newest = max(newest, n)
		}
		if newest < mark {
			return fmt.Errorf("the newest write in it is %d, but %d was acknowledged before it was taken", newest, mark)
		}
		for i, n := range numbers {
			// The newest write at position i that is not newer than the newest of all.
			want := uint64(0)
			if newest > uint64(i) {
				want = (newest-1-uint64(i))/span*span + uint64(i) + 1
			}
			if n != want {
				return fmt.Errorf("it is not a moment of the disk: write %d is there, and position %d has write %d instead of %d", newest, i, n, want)
			}
		}
		s.tell("holds writes up to %d; %d were acknowledged before", newest, mark)
		return nil
	})
}
