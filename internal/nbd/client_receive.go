package nbd

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"golang.org/x/sys/unix"
)

// receive reads answers until the connection fails: an answer that makes no sense is the end of it, for nobody knows where the next
// would begin.
func (c *Client) receive() {
	defer close(c.over)
	for {
		if err := c.answer(); err != nil {
			c.fail(fmt.Errorf("reading from the NBD server: %w", ended(err)))
			return
		}
	}
}

func (c *Client) answer() error {
	var b [20]byte
	if _, err := io.ReadFull(c.in, b[:16]); err != nil {
		return err
	}
	switch be.Uint32(b[:]) {
	case magicSimple:
		k, err := c.find(be.Uint64(b[8:]))
		if err != nil {
			return err
		}
		if errno := be.Uint32(b[4:]); errno != 0 {
			k.refuse(errno, nil)
			return c.finish(k)
		}
		if k.command == cmdBlockStatus || k.command == cmdRead && c.structured {
			return errors.New("it answers without the structure that was agreed on")
		}
		if k.command == cmdRead {
			if _, err := io.ReadFull(c.in, k.data); err != nil {
				return err
			}
			k.got.all = true
		}
		return c.finish(k)
	case magicStructured:
		if !c.structured {
			return errors.New("it answers with a structure that nobody has asked for")
		}
		if _, err := io.ReadFull(c.in, b[16:]); err != nil {
			return err
		}
		k, err := c.find(be.Uint64(b[8:]))
		if err != nil {
			return err
		}
		h := chunk{be.Uint16(b[4:]), be.Uint16(b[6:]), k.cookie, be.Uint32(b[16:])}
		if err := c.piece(k, &h); err != nil {
			return fmt.Errorf("its answer to a %s of %d bytes at %d: %w", commandNames[k.command], k.length, k.offset, err)
		}
		if h.flags&chunkDone != 0 {
			return c.finish(k)
		}
		return nil
	}
	return errors.New("what it sends is no answer")
}

func (c *Client) find(cookie uint64) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.calls[cookie]; k != nil {
		return k, nil
	}
	return nil, errors.New("it answers what was not asked")
}

// finish gives the caller the answer, if it is one.
func (c *Client) finish(k *call) error {
	if k.err == nil && k.command == cmdRead && !k.got.whole(len(k.data)) {
		return fmt.Errorf("its answer to a read of %d bytes at %d is not complete", k.length, k.offset)
	}
	if k.err == nil && k.command == cmdBlockStatus && len(k.extents) == 0 {
		return fmt.Errorf("it does not say what %d bytes at %d are", k.length, k.offset)
	}
	c.mu.Lock()
	delete(c.calls, k.cookie)
	c.mu.Unlock()
	close(k.done)
	return nil
}

func (k *call) refuse(errno uint32, message []byte) {
	if k.err != nil {
		return // the first says most
	}
	if errno == 0 {
		errno = uint32(unix.EIO)
	}
	k.err = &RemoteError{commandNames[k.command], int64(k.offset), int64(k.length), unix.Errno(errno), string(message[:min(len(message), 200)])}
}

var errNonsense = errors.New("it makes no sense")

// piece reads one piece of a structured reply.
func (c *Client) piece(k *call, h *chunk) error {
	if k.pieces++; k.pieces > maxRequest/512 || len(k.got.ranges) > 4096 {
		return errors.New("it comes in too many pieces")
	}
	switch {
	case h.kind == chunkNone:
		if h.length != 0 || h.flags&chunkDone == 0 {
			return errNonsense
		}
		return nil
	case h.kind == chunkData && k.command == cmdRead:
		f, err := receive(c.in, 8)
		if err != nil {
			return err
		}
		if h.length < 9 {
			return errNonsense
		}
		into, err := k.part(f.uint64(), h.length-8)
		if err != nil {
			return err
		}
		_, err = io.ReadFull(c.in, into)
		return err
	case h.kind == chunkHole && k.command == cmdRead:
		f, err := receive(c.in, 12)
		if err != nil {
			return err
		}
		offset, length := f.uint64(), f.uint32()
		if h.length != 12 || length == 0 {
			return errNonsense
		}
		into, err := k.part(offset, length)
		clear(into)
		return err
	case h.length > maxOption:
		return errNonsense
	}
	f, err := receive(c.in, int(h.length))
	if err != nil {
		return err
	}
	switch {
	case h.kind == chunkStatus && k.command == cmdBlockStatus:
		return k.status(f, c.metaID)
	case h.kind&(1<<15) != 0:
		errno, message := f.uint32(), f.take(uint32(f.uint16()))
		if f.bad {
			return errNonsense
		}
		k.refuse(errno, message)
		return nil
	}
	return errNonsense
}

// part is where bytes of the disk belong in what a READ is to fill; none may come twice.
func (k *call) part(offset uint64, length uint32) ([]byte, error) {
	if offset < k.offset || offset-k.offset > uint64(k.length) || uint64(length) > uint64(k.length)-(offset-k.offset) {
		return nil, errors.New("it has bytes that were not asked for")
	}
	from := int(offset - k.offset)
	to := from + int(length)
	if !k.got.add(from, to) {
		return nil, errors.New("it has the same bytes twice")
	}
	return k.data[from:to], nil
}

func (k *call) status(f *fields, id uint32) error {
	if f.uint32() != id || k.extents != nil {
		return errNonsense
	}
	for left := int64(k.length); len(f.rest) > 0; {
		length, state := int64(f.uint32()), f.uint32()
		if f.bad || length == 0 || left <= 0 {
			return errNonsense
		}
		k.extents = append(k.extents, Extent{min(length, left), state&stateHole != 0, state&stateZero != 0}) // the last may go beyond
		left -= length
	}
	if k.extents == nil {
		return errNonsense
	}
	return nil
}

// covered is which bytes of a reply have come: stretches in order, those that touch one another as one.
type covered struct {
	all    bool
	ranges [][2]int
}

// add notes a stretch; false if some of it is there already.
func (c *covered) add(from, to int) bool {
	i := sort.Search(len(c.ranges), func(i int) bool { return c.ranges[i][1] >= from })
	before := i < len(c.ranges) && c.ranges[i][1] == from
	next := i
	if before {
		next++
	}
	if next < len(c.ranges) && c.ranges[next][0] < to {
		return false
	}
	after := next < len(c.ranges) && c.ranges[next][0] == to
	switch {
	case before && after:
		c.ranges[i][1] = c.ranges[next][1]
		c.ranges = append(c.ranges[:next], c.ranges[next+1:]...)
	case before:
		c.ranges[i][1] = to
	case after:
		c.ranges[next][0] = from
	default:
		c.ranges = append(c.ranges, [2]int{})
		copy(c.ranges[i+1:], c.ranges[i:])
		c.ranges[i] = [2]int{from, to}
	}
	return true
}

func (c *covered) whole(length int) bool {
	return c.all || len(c.ranges) == 1 && c.ranges[0] == [2]int{0, length}
}
