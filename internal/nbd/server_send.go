package nbd

import (
	"net"
	"sync"
)

// sender writes replies to a connection, in any order but each in one piece. While one is being written short ones are
// collected, and go out together.
type sender struct {
	conn    net.Conn
	mu      sync.Mutex
	free    sync.Cond
	busy    bool
	waiting int
	short   []byte // replies that whoever is busy takes along
	spare   []byte
	err     error
}

const mostShort = 64 << 10

func (s *sender) begin(conn net.Conn) { s.conn, s.free.L = conn, &s.mu }

// send writes a reply: the short part at once or soon, the long one before it returns.
func (s *sender) send(short []byte, long net.Buffers) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy && long == nil && len(s.short) < mostShort {
		s.short = append(s.short, short...)
		return s.err
	}
	for s.busy {
		s.waiting++
		s.free.Wait()
		s.waiting--
	}
	s.busy = true
	s.short = append(s.short, short...)
	for s.err == nil && (len(s.short) > 0 || len(long) > 0) {
		now := s.short
		s.short, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		var err error
		if len(long) == 0 {
			_, err = s.conn.Write(now)
		} else {
			all := append(net.Buffers{now}, long...)
			long = nil
			_, err = all.WriteTo(s.conn)
		}
		s.mu.Lock()
		s.spare = now[:0]
		if s.err == nil {
			s.err = err
		}
		if s.waiting > 0 {
			break // whoever waits takes along what came in meanwhile
		}
	}
	s.busy = false
	s.free.Signal()
	if s.err != nil {
		s.conn.Close() // nobody reads what nobody can answer
	}
	return s.err
}

// budget is a number of bytes that may be taken before some are given back.
type budget struct {
	mu   sync.Mutex
	more sync.Cond
	left int
}

func (b *budget) begin(n int) { b.left, b.more.L = n, &b.mu }

func (b *budget) take(n int) {
	b.mu.Lock()
	for b.left < n {
		b.more.Wait()
	}
	b.left -= n
	b.mu.Unlock()
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.left += n
	b.mu.Unlock()
	b.more.Broadcast()
}
