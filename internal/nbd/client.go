package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrCannot is what a Client answers if the server has no such command; nothing was sent.
var ErrCannot = errors.New("the NBD server cannot do that")

// Options are how a Client speaks to a server.
type Options struct {
	// Plain asks for the disk by the oldest option and for nothing else: for a server that breaks off at what it does not know. Holes
	// are then neither told nor skipped.
	Plain bool
	// Silence is how long the server may take to answer while it is asked something; 0 is a minute.
	Silence time.Duration
	// InFlight is how many requests are sent before the first is answered; 0 is 16. More callers wait.
	InFlight int
}

// Client is a connection to a server. Its methods may be called by many goroutines: their requests are then under way at
// once, and done in any order. Once the connection has failed, every method answers with the cause.
type Client struct {
	conn       net.Conn
	in         *bufio.Reader
	size       int64
	flags      Flags
	most       int // bytes of a READ or WRITE
	structured bool
	meta       bool
	metaID     uint32
	silence    time.Duration
	places     chan struct{}

	sending sync.Mutex

	mu     sync.Mutex
	calls  map[uint64]*call
	cookie uint64
	err    error         // why the connection is of no use any more
	over   chan struct{} // closed when nothing of the server is read any more, and no caller's bytes are touched
}

// call is a request that was sent and not answered.
type call struct {
	request
	data    []byte // of a READ, to be filled
	got     covered
	extents []Extent
	pieces  int
	err     error
	done    chan struct{}
}

// Dial connects to a server ("unix", "/run/x.sock") and chooses the disk of that name.
func Dial(ctx context.Context, network, address, name string, o Options) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to the NBD server: %w", err)
	}
	return Connect(ctx, conn, name, o)
}

// Connect is Dial over a connection that there is. It belongs to the Client, and is closed if that cannot be. The context is for
// choosing the disk only; without a deadline of its own that takes Options.Silence at most.
func Connect(ctx context.Context, conn net.Conn, name string, o Options) (*Client, error) {
	roomy(conn)
	c := newClient(conn, o)
	conn.SetDeadline(time.Now().Add(c.silence))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	err := c.handshake(name, o.Plain)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("asking the NBD server at %s for export %q: %w", peer(conn), name, ended(err))
	}
	conn.SetDeadline(time.Time{})
	go c.receive()
	return c, nil
}

func newClient(conn net.Conn, o Options) *Client {
	if o.Silence == 0 {
		o.Silence = time.Minute
	}
	if o.InFlight == 0 {
		o.InFlight = 16
	}
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), most: maxRequest, silence: o.Silence, places: make(chan struct{}, o.InFlight),
		calls: map[uint64]*call{}, over: make(chan struct{})}
}

func peer(conn net.Conn) string {
	if a := conn.RemoteAddr(); a != nil && a.String() != "" {
		return a.String()
	}
	return "the other end"
}

// ended says in words that a connection ended or nothing came.
func ended(err error) error {
	var late net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it closed the connection (%w)", err)
	case errors.As(err, &late) && late.Timeout():
		return fmt.Errorf("it does not answer (%w)", err)
	}
	return err
}

// Size is the disk's, in bytes.
func (c *Client) Size() int64 { return c.size }

// Flags are what the server can do, as it says.
func (c *Client) Flags() Flags { return c.flags }

// TellsExtents says whether Extents knows holes from data.
func (c *Client) TellsExtents() bool { return c.meta }

// Close takes leave of the server and closes the connection; calls that wait for an answer get an error. Flush before, if what was
// written is to be durable.
func (c *Client) Close() error {
	c.mu.Lock()
	failed := c.err != nil
	c.mu.Unlock()
	if !failed {
		c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		c.send(&request{command: cmdDisc}, nil) //nolint:errcheck // it is a courtesy
	}
	c.fail(errors.New("the connection to the NBD server was closed"))
	<-c.over
	return nil
}

// Wait returns when the connection has failed or was closed, with the cause.
func (c *Client) Wait() error {
	<-c.over
	return c.cause()
}

func (c *Client) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.conn.Close()
}

func (c *Client) send(r *request, data []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	b := r.append(make([]byte, 0, requestSize))
	if len(data) == 0 {
		_, err := c.conn.Write(b)
		return err
	}
	if len(data) <= 16<<10 {
		_, err := c.conn.Write(append(b, data...))
		return err
	}
	_, err := (&net.Buffers{b, data}).WriteTo(c.conn)
	return err
}

// do sends a request and waits for its answer. Until it returns the caller's bytes are in use.
func (c *Client) do(r request, write, read []byte) (*call, error) {
	c.places <- struct{}{}
	defer func() { <-c.places }()
	k := &call{request: r, data: read, done: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	c.cookie++
	k.cookie = c.cookie
	c.calls[k.cookie] = k
	c.mu.Unlock()

	patience := time.AfterFunc(c.silence, func() {
		c.fail(fmt.Errorf("the NBD server has not answered a %s of %d bytes at %d for %v", commandNames[r.command], r.length, r.offset, c.silence))
	})
	defer patience.Stop()
	if err := c.send(&k.request, write); err != nil {
		c.fail(fmt.Errorf("sending to the NBD server: %w", err))
	}
	select {
	case <-k.done:
		return k, k.err
	case <-c.over:
		select {
		case <-k.done:
			return k, k.err
		default:
			return nil, c.cause()
		}
	}
}

func (c *Client) cannot(what string) error { return fmt.Errorf("%s: %w", what, ErrCannot) }

// within is unix.EINVAL for what is no part of the disk.
func (c *Client) within(command uint16, offset, length int64) error {
	if offset < 0 || length < 0 || offset > c.size || length > c.size-offset {
		return fmt.Errorf("%s of %d bytes at %d: the NBD server's disk has %d bytes: %w", commandNames[command], length, offset, c.size, unix.EINVAL)
	}
	return nil
}
