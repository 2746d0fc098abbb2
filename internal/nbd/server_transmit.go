package nbd

import (
	"fmt"
	"io"
	"math/bits"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// transmit works on requests until the client ends or breaks off. One goroutine reads a request while others work on those before it;
// there are as many as there is work for.
func (c *connection) transmit() error {
	var all sync.WaitGroup
	idle := make(chan struct{}, workers) // a token for each goroutine that could still be begun
	for range workers - 1 {
		idle <- struct{}{}
	}
	var work func()
	work = func() {
		for {
			c.reading.Lock()
			if c.ended != nil {
				c.reading.Unlock()
				return
			}
			r, data, err := c.next()
			c.ended = err
			c.reading.Unlock()
			if err != nil {
				return
			}
			select {
			case <-idle:
				all.Go(work)
			default:
			}
			c.do(r, data)
		}
	}
	all.Go(work)
	all.Wait()
	if c.ended == errLeaves {
		return nil
	}
	return c.ended
}

// next reads a request and its data, which has its share of the budget then. What cannot be done is answered here, and the next one read.
func (c *connection) next() (request, []byte, error) {
	var b [requestSize]byte
	for {
		if _, err := io.ReadFull(c.in, b[:]); err != nil {
			return request{}, nil, err
		}
		r, err := parseRequest(&b)
		if err != nil {
			return r, nil, err
		}
		if r.command == cmdDisc {
			return r, nil, errLeaves
		}
		errno, why := c.refuses(&r)
		if errno != 0 {
			if r.command == cmdWrite {
				if _, err := io.CopyN(io.Discard, c.in, int64(r.length)); err != nil {
					return r, nil, err
				}
			}
			if err := c.fail(&r, errno, why); err != nil {
				return r, nil, err
			}
			continue
		}
		if r.command != cmdRead && r.command != cmdWrite {
			return r, nil, nil
		}
		c.left.take(int(r.length))
		data := buffer(int(r.length))
		if r.command == cmdWrite {
			if _, err := io.ReadFull(c.in, data); err != nil {
				return r, nil, err
			}
		}
		return r, data, nil
	}
}

// refuses says why a request cannot be done, whatever the disk is like.
func (c *connection) refuses(r *request) (unix.Errno, string) {
	known := uint16(cmdFUA)
	writes := false
	switch r.command {
	case cmdRead:
		if c.structured {
			known |= cmdDF
		}
	case cmdWrite:
		writes = true
	case cmdTrim:
		writes = true
	case cmdWriteZeroes:
		known |= cmdNoHole | cmdFastZero
		writes = true
	case cmdBlockStatus:
		known |= cmdReqOne
		if !c.meta && !c.bitmap {
			return unix.EINVAL, "no metadata context was chosen"
		}
	case cmdFlush:
	default:
		return unix.EINVAL, "no such command"
	}
	size := uint64(c.size)
	switch {
	case r.flags&^known != 0:
		return unix.EINVAL, "no such flag for this command"
	case r.command == cmdFlush && (r.offset != 0 || r.length != 0):
		return unix.EINVAL, "a flush is of the whole disk"
	case r.command == cmdFlush:
		return 0, ""
	case writes && c.server.ReadOnly:
		return unix.EPERM, "the disk is read-only"
	case r.length == 0:
		return unix.EINVAL, "no bytes"
	case r.offset > size || uint64(r.length) > size-r.offset:
		if r.command == cmdWrite || r.command == cmdWriteZeroes {
			return unix.ENOSPC, "beyond the end of the disk"
		}
		return unix.EINVAL, "beyond the end of the disk"
	case r.length > maxRequest && r.command == cmdRead && r.flags&cmdDF != 0:
		return unix.EOVERFLOW, "more than 32 MiB at once"
	case r.length > maxRequest && (r.command == cmdRead || r.command == cmdWrite):
		return unix.EINVAL, "more than 32 MiB at once"
	}
	return 0, ""
}

// do does a request and answers it. If the answer cannot be sent the connection is closed, which whoever reads the next request finds.
func (c *connection) do(r request, data []byte) {
	if data != nil {
		defer func() {
			recycle(data)
			c.left.give(int(r.length))
		}()
	}
	d, offset, length := c.server.Backend, int64(r.offset), int64(r.length)
	var err error
	switch r.command {
	case cmdRead:
		if err = c.read(&r, data); err == nil {
			return
		}
	case cmdBlockStatus:
		if err = c.blockStatus(&r); err == nil {
			return
		}
	case cmdWrite:
		_, err = d.WriteAt(data, offset)
	case cmdTrim:
		err = d.Trim(offset, length)
	case cmdWriteZeroes:
		err = d.Zero(offset, length, ZeroHow{Allocated: r.flags&cmdNoHole != 0, Fast: r.flags&cmdFastZero != 0})
	}
	if err == nil && (r.command == cmdFlush || r.flags&cmdFUA != 0) {
		err = d.Flush()
	}
	if err == nil {
		var b [16]byte
		c.out.send(appendSimple(b[:0], 0, r.cookie), nil)
		return
	}
	errno := errnoOf(err)
	if c.server.Report != nil && errno != unix.ENOTSUP {
		c.server.Report(fmt.Errorf("%s of %d bytes at %d: %w", commandNames[r.command], length, offset, err))
	}
	c.fail(&r, errno, errno.Error()) // names of files are no business of who is connected
}

// fail answers with an error number, and with its cause if the client can take that.
func (c *connection) fail(r *request, errno unix.Errno, why string) error {
	if !c.structured {
		return c.out.send(appendSimple(nil, uint32(errno), r.cookie), nil)
	}
	why = why[:min(len(why), 200)]
	b := (&chunk{chunkDone, chunkError, r.cookie, uint32(6 + len(why))}).append(nil)
	b = be.AppendUint32(b, uint32(errno))
	b = be.AppendUint16(b, uint16(len(why)))
	return c.out.send(append(b, why...), nil)
}

// read answers with what it has read; holes that are worth it are told instead of sent.
func (c *connection) read(r *request, data []byte) error {
	const worth, pieces = 32 << 10, 64
	d, offset := c.server.Backend, int64(r.offset)
	if !c.structured {
		if _, err := d.ReadAt(data, offset); err != nil {
			return err
		}
		c.out.send(nil, net.Buffers{appendSimple(nil, 0, r.cookie), data})
		return nil
	}
	extents := []Extent{{Length: int64(len(data))}}
	if r.flags&cmdDF == 0 && len(data) >= worth {
		var err error
		if extents, err = d.Extents(offset, int64(len(data)), pieces); err != nil {
			return err
		}
	}
	var reply net.Buffers
	for at := 0; at < len(data); {
		e := Extent{Length: int64(len(data) - at)} // what Extents did not get to is read
		if len(extents) > 0 {
			e, extents = extents[0], extents[1:]
		}
		end := at + int(min(e.Length, int64(len(data)-at)))
		head := chunk{0, chunkData, r.cookie, uint32(8 + end - at)}
		if end == len(data) {
			head.flags = chunkDone
		}
		if e.Zero {
			head.kind, head.length = chunkHole, 12
		}
		b := be.AppendUint64(head.append(make([]byte, 0, 32)), uint64(offset)+uint64(at))
		if e.Zero {
			reply = append(reply, be.AppendUint32(b, uint32(end-at)))
		} else {
			if _, err := d.ReadAt(data[at:end], offset+int64(at)); err != nil {
				return err
			}
			reply = append(reply, b, data[at:end])
		}
		at = end
	}
	c.out.send(nil, reply)
	return nil
}

func (c *connection) blockStatus(r *request) error {
	most := maxExtents
	if r.flags&cmdReqOne != 0 {
		most = 1
	}
	var b []byte
	if c.bitmap {
		changed, err := c.server.Bitmap.Extents(int64(r.offset), int64(r.length), most)
		if err != nil {
			return err
		}
		head := chunk{chunkDone, chunkStatus, r.cookie, uint32(4 + 8*len(changed))}
		if c.meta {
			head.flags = 0
		}
		b = be.AppendUint32(head.append(b), bitmapID)
		for _, e := range changed {
			var state uint32
			if e.Changed {
				state = stateDirty
			}
			b = be.AppendUint32(be.AppendUint32(b, uint32(e.Length)), state)
		}
	}
	if !c.meta {
		c.out.send(b, nil)
		return nil
	}
	extents, err := c.server.Backend.Extents(int64(r.offset), int64(r.length), most)
	if err != nil {
		return err
	}
	b = (&chunk{chunkDone, chunkStatus, r.cookie, uint32(4 + 8*len(extents))}).append(b)
	b = be.AppendUint32(b, allocationID)
	for _, e := range extents {
		var state uint32
		if e.Hole {
			state |= stateHole
		}
		if e.Zero {
			state |= stateZero
		}
		b = be.AppendUint32(be.AppendUint32(b, uint32(e.Length)), state)
	}
	c.out.send(b, nil)
	return nil
}

// Buffers by the power of two of their size, for requests of all connections.
var buffers [26]sync.Pool

func buffer(n int) []byte {
	k := bits.Len(uint(max(n, 4096) - 1))
	if b, ok := buffers[k].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<k)
}

func recycle(b []byte) { buffers[bits.Len(uint(cap(b))-1)].Put(&b) }
