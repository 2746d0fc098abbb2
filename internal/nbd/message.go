package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

var be = binary.BigEndian

// request is a command as it travels; the data of a WRITE follows it.
type request struct {
	flags, command uint16
	cookie, offset uint64
	length         uint32
}

const requestSize = 28

func (r *request) append(b []byte) []byte {
	b = be.AppendUint32(b, magicRequest)
	b = be.AppendUint16(b, r.flags)
	b = be.AppendUint16(b, r.command)
	b = be.AppendUint64(b, r.cookie)
	b = be.AppendUint64(b, r.offset)
	return be.AppendUint32(b, r.length)
}

func parseRequest(b *[requestSize]byte) (r request, err error) {
	if be.Uint32(b[:]) != magicRequest {
		return r, errors.New("what the client sends is no NBD request")
	}
	return request{be.Uint16(b[4:]), be.Uint16(b[6:]), be.Uint64(b[8:]), be.Uint64(b[16:]), be.Uint32(b[24:])}, nil
}

func appendSimple(b []byte, errno uint32, cookie uint64) []byte {
	b = be.AppendUint32(b, magicSimple)
	b = be.AppendUint32(b, errno)
	return be.AppendUint64(b, cookie)
}

// chunk is the header of a piece of a structured reply.
type chunk struct {
	flags, kind uint16
	cookie      uint64
	length      uint32 // of what follows
}

func (c *chunk) append(b []byte) []byte {
	b = be.AppendUint32(b, magicStructured)
	b = be.AppendUint16(b, c.flags)
	b = be.AppendUint16(b, c.kind)
	b = be.AppendUint64(b, c.cookie)
	return be.AppendUint32(b, c.length)
}

// option is one that a client sends.
type option struct {
	id   uint32
	data []byte
}

func (o *option) append(b []byte) []byte {
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, o.id)
	b = be.AppendUint32(b, uint32(len(o.data)))
	return append(b, o.data...)
}

// optionReply answers one; an error's data is a message.
type optionReply struct {
	id, kind uint32
	data     []byte
}

func (r *optionReply) append(b []byte) []byte {
	b = be.AppendUint64(b, magicOptionReply)
	b = be.AppendUint32(b, r.id)
	b = be.AppendUint32(b, r.kind)
	b = be.AppendUint32(b, uint32(len(r.data)))
	return append(b, r.data...)
}

func appendString(b []byte, s string) []byte {
	return append(be.AppendUint32(b, uint32(len(s))), s...)
}

// fields takes a message apart from its front; bad once there was less than asked for.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n uint32) []byte {
	if f.bad = f.bad || uint64(n) > uint64(len(f.rest)); f.bad {
		return make([]byte, min(n, 8))
	}
	var b []byte
	b, f.rest = f.rest[:n], f.rest[n:]
	return b
}

func (f *fields) uint16() uint16 { return be.Uint16(f.take(2)) }
func (f *fields) uint32() uint32 { return be.Uint32(f.take(4)) }
func (f *fields) uint64() uint64 { return be.Uint64(f.take(8)) }

// text is a string after its length.
func (f *fields) text() string {
	n := f.uint32()
	if f.bad = f.bad || n > maxString; f.bad {
		return ""
	}
	return string(f.take(n))
}

// whole says whether the message was all taken, and none was missing.
func (f *fields) whole() bool { return !f.bad && len(f.rest) == 0 }

// receive reads a header of n bytes.
func receive(r io.Reader, n int) (*fields, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return &fields{rest: b}, nil
}

// size64 is a size from the wire; what is beyond an int64 is refused.
func size64(n uint64) (int64, error) {
	if n > math.MaxInt64 {
		return 0, fmt.Errorf("a disk of %d bytes cannot be", n)
	}
	return int64(n), nil
}
