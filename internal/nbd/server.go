package nbd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Server serves one disk, by whatever name a client asks for.
type Server struct {
	Backend  Backend
	Name     string // that a list of exports has
	ReadOnly bool

	// Handshake is how long a client may take until it reads or writes; 0 is 10 s. After that it may be silent for as long as it likes.
	Handshake time.Duration
	// Connections is how many there may be at once; 0 is 32. Each takes 64 MiB of memory at most, and 16 requests at once. One that is
	// too many is closed at once.
	Connections int
	// Bitmap tells clients that ask for it what of the disk has changed; nil if there is none.
	Bitmap *Bitmap
	// Report hears of every request that the Backend failed; nil if nobody wants to.
	Report func(error)
}

// Bitmap is what of a disk has changed since some moment, as qemu-nbd tells it: the metadata context qemu:dirty-bitmap:NAME.
type Bitmap struct {
	Name string
	// Extents tells of the bytes from offset on whether they have changed: at least one extent, of length in all at most, and no more than most.
	Extents func(offset, length int64, most int) ([]Changed, error)
}

// Changed is a stretch of a disk of which all has changed, or nothing.
type Changed struct {
	Length  int64
	Changed bool
}

func (b *Bitmap) context() string { return "qemu:dirty-bitmap:" + b.Name }

const (
	workers   = 16       // requests of a connection that are worked on at once
	inFlight  = 64 << 20 // bytes of theirs, so that memory is bounded: two requests of the largest kind
	farewells = 5 * time.Second
)

// Serve accepts connections until the context ends; then it lets those that there are finish the requests that they work on,
// closes them and the listener, and returns nil. Any other error is the listener's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var connections sync.WaitGroup
	defer connections.Wait()
	most := s.Connections
	if most == 0 {
		most = 32
	}
	places := make(chan struct{}, most)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			var passing interface{ Temporary() bool } // no descriptors, or a client that was gone at once
			if errors.As(err, &passing) && passing.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		connections.Go(func() {
			defer func() { <-places }()
			s.ServeConn(ctx, conn) //nolint:errcheck // a client that breaks off is not this server's trouble
		})
	}
}

// ServeConn serves one client and closes the connection: nil if the client took its leave or the context ended, else what was wrong
// with what it sent.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	c := &connection{server: s, conn: conn, size: s.Backend.Size()}
	roomy(conn)
	c.in.Reset(conn)
	c.out.begin(conn)
	c.left.begin(inFlight)
	limit := s.Handshake
	if limit == 0 {
		limit = 10 * time.Second
	}
	conn.SetDeadline(time.Now().Add(limit))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	err := c.handshake()
	if !stop() {
		return nil
	}
	if err != nil {
		if errors.Is(err, errLeaves) {
			return nil
		}
		return err
	}
	conn.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() {
		conn.SetReadDeadline(time.Now())
		conn.SetWriteDeadline(time.Now().Add(farewells))
	})()
	err = c.transmit()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// errLeaves is a client's orderly end.
var errLeaves = errors.New("the client takes its leave")

func (s *Server) flags(structured bool) Flags {
	f := HasFlags | SendFlush | SendFUA | CanMultiConn
	if s.ReadOnly {
		f |= ReadOnly
	} else {
		f |= SendTrim | SendWriteZeroes | SendFastZero
	}
	if structured {
		f |= SendDF
	}
	return f
}
