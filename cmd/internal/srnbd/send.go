package srnbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/nbd"
	"reflinksr/internal/repository"
)

// How much is sent at once, in bytes, and beside how many others.
const (
	piece  = 1 << 20
	beside = 4
)

// round sends what differs between two moments; of nil and one, what is not zeros, for the other side is a new disk. It returns how many
// bytes that were.
func (m *mirroring) round(ctx context.Context, before, now *os.File) (int64, error) {
	st, err := now.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() > m.to.Size() {
		return 0, fmt.Errorf("the disk has %d bytes by now, and the other side %d", st.Size(), m.to.Size())
	}
	if before == nil {
		err := repository.ChangedIn(ctx, nil, now, func(start, end int64) { m.State.Total += end - start })
		if err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &sending{mirroring: m, now: now, fresh: before == nil, began: time.Now(), todo: make(chan part), failed: cancel}
	var all sync.WaitGroup
	for range beside {
		all.Go(func() { s.work(ctx) })
	}
	err = repository.ChangedIn(ctx, before, now, func(start, end int64) {
		for at := start; at < end && ctx.Err() == nil; at += piece {
			select {
			case s.todo <- part{at, min(end, at+piece)}:
			case <-ctx.Done():
			}
		}
	})
	close(s.todo)
	all.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil {
		err = m.to.Flush()
	}
	if errors.Is(err, nbd.ErrCannot) {
		err = nil // tapdisk cannot, and nobody asks more of it
	}
	return s.sent, err
}

// part is the bytes [start, end).
type part struct{ start, end int64 }

// sending is a round under way.
type sending struct {
	*mirroring
	now    *os.File
	fresh  bool // the other side has zeros so far
	began  time.Time
	todo   chan part
	failed context.CancelCauseFunc

	mu   sync.Mutex
	sent int64
}

func (s *sending) work(ctx context.Context) {
	buffer := make([]byte, piece)
	for p := range s.todo {
		if ctx.Err() != nil {
			continue
		}
		if err := s.send(ctx, p, buffer[:p.end-p.start]); err != nil {
			s.failed(err)
		}
	}
}

func (s *sending) send(ctx context.Context, p part, buffer []byte) error {
	n, err := s.now.ReadAt(buffer, p.start)
	if err == io.EOF {
		clear(buffer[n:])
		err = nil
	}
	if err != nil {
		return fmt.Errorf("reading the disk at byte %d: %w", p.start, err)
	}
	// Nobody reads it again: guests' disks are not to take dom0's memory. It is a hint.
	unix.Fadvise(int(s.now.Fd()), p.start, p.end-p.start, unix.FADV_DONTNEED) //nolint:errcheck
	switch {
	case !isZero(buffer):
		_, err = s.to.WriteAt(buffer, p.start)
	case !s.fresh:
		err = s.to.Zero(p.start, int64(len(buffer)), nbd.ZeroHow{Allocated: true})
	}
	if err != nil {
		return fmt.Errorf("writing to %s at byte %d: %w", s.State.Remote, p.start, err)
	}
	return s.count(ctx, int64(len(buffer)))
}

var zeros [piece]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// count tells of what was sent, and waits as long as the limit wants.
func (s *sending) count(ctx context.Context, n int64) error {
	s.mu.Lock()
	s.sent += n
	s.State.Copied += n
	err := s.Tell(true)
	wait := time.Duration(0)
	if s.limit > 0 {
		wait = time.Until(s.began.Add(time.Duration(float64(s.sent) / float64(s.limit) * float64(time.Second))))
	}
	s.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return err
}
