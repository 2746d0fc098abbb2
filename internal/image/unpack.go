package image

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// packed is a cluster that is stored compressed.
type packed struct {
	method method
	length int   // bytes in the file
	whole  int   // bytes that it has unpacked
	skip   int64 // of which so many come before the span
}

type method uint8

const (
	deflated method = iota // without a header
	zlibbed
	zstded
)

// unpacker unpacks clusters, and keeps the last one: who reads a disk reads the rest of it next. There is one for all files
// of an image, since what it keeps is large.
type unpacker struct {
	in    *file
	host  int64
	whole []byte // nil if there is none
	from  []byte
	flate io.ReadCloser
	zlib  io.ReadCloser
	zstd  *zstd.Decoder
}

// zstdWindow is as far back as what is compressed by zstd may point, in bytes: the largest cluster has a quarter of that.
const zstdWindow = 8 << 20

// unpack gives the whole cluster that a span is of, until the next one is asked for.
func (u *unpacker) unpack(s span) ([]byte, error) {
	if u.whole != nil && u.in == s.in && u.host == s.host {
		return u.whole, nil
	}
	u.from = resized(u.from, s.packed.length)
	if err := s.in.data(u.from, s.host); err != nil {
		return nil, err
	}
	whole := resized(u.whole, s.packed.whole)
	u.whole = nil
	if err := u.into(whole, s.packed.method); err != nil {
		u.flate, u.zlib = nil, nil
		return nil, s.in.bad(s.host, "a compressed cluster of %d bytes cannot be unpacked to %d: %v", s.packed.length, s.packed.whole, err)
	}
	u.in, u.host, u.whole = s.in, s.host, whole
	return whole, nil
}

// into unpacks what was read. What follows after as much as there must be is not looked at: the length in a table is that of whole
// sectors.
func (u *unpacker) into(whole []byte, m method) (err error) {
	from := bytes.NewReader(u.from)
	var r io.Reader
	switch m {
	case deflated:
		if u.flate == nil {
			u.flate = flate.NewReader(from)
		} else if err = u.flate.(flate.Resetter).Reset(from, nil); err != nil {
			return err
		}
		r = u.flate
	case zlibbed:
		if u.zlib == nil {
			u.zlib, err = zlib.NewReader(from)
		} else {
			err = u.zlib.(zlib.Resetter).Reset(from, nil)
		}
		r = u.zlib
	default:
		if u.zstd == nil {
			u.zstd, err = zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(zstdWindow))
		} else {
			err = u.zstd.Reset(from)
		}
		r = u.zstd
	}
	if err != nil {
		return err
	}
	if n, err := io.ReadFull(r, whole); err != nil {
		return fmt.Errorf("it ends after %d bytes (%w)", n, err)
	}
	return nil
}

func resized(p []byte, n int) []byte {
	if cap(p) < n {
		return make([]byte, n)
	}
	return p[:n]
}
