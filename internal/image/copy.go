package image

import (
	"bytes"
	"context"
	"io"

	"reflinksr/internal/fault"
	"reflinksr/internal/inorder"
)

// Sink takes a disk from its beginning to its end.
type Sink interface {
	io.Writer
	Zeros(n int64) error // n bytes more, all of them zeros
	End() error          // that was all
}

// pieceSize is how much is moved at once, in bytes.
const pieceSize = 1 << 20

// grain is how many zeros in a row, in bytes, are left out where an image has them as data: fewer would make more extents than the
// space is worth, and those are what a snapshot takes its time for.
const grain = 64 << 10

// nothing is what zeros are compared with.
var nothing [grain]byte

// CopyTo gives the disk to a sink, until ctx ends: then the error is its cause. moved is told how many bytes of how many
// are done, of those that are not known to be zeros.
func (m *Image) CopyTo(ctx context.Context, to Sink, moved func(done, total int64)) error {
	total := int64(0)
	err := m.each(ctx, func(_ int64, s span) error {
		if s.kind == data {
			total += s.length
		}
		return nil
	})
	if err != nil {
		return err
	}
	moved(0, total)
	c := copying{to: to}
	done := int64(0)
	line := inorder.Begin()
	g := gathering{ctx: ctx, give: func(piece []byte) error {
		return line.Do(func() error {
			err := c.give(piece)
			done += int64(len(piece))
			moved(done, total)
			return err
		})
	}}
	err = m.each(ctx, func(_ int64, s span) error {
		if s.kind == data {
			return g.add(s, m.read)
		}
		if err := g.flush(); err != nil {
			return err
		}
		return line.Do(func() error { return c.zeros(s.length) })
	})
	if err == nil {
		err = g.flush()
	}
	if e := line.End(); err == nil {
		err = e
	}
	if err == nil {
		err = to.End()
	}
	return err
}

// gathering puts what is read of pieces that follow one another together, until it is much or there is no more.
type gathering struct {
	ctx     context.Context          // whose end ends it
	give    func(piece []byte) error // it may keep the last few
	buffers [inorder.Buffers][]byte  // in turn
	turn    int
	buffer  []byte // which is filled
}

// add reads all of a piece.
func (g *gathering) add(s span, read func(p []byte, s span) error) error {
	for s.length > 0 {
		if err := context.Cause(g.ctx); err != nil {
			return err
		}
		if g.buffer == nil {
			g.buffer = g.next()
		}
		filled := len(g.buffer)
		g.buffer = g.buffer[:filled+int(min(s.length, int64(pieceSize-filled)))]
		piece := g.buffer[filled:]
		if err := read(piece, s); err != nil {
			return err
		}
		s = s.after(int64(len(piece)))
		if len(g.buffer) == pieceSize {
			if err := g.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// next is an empty buffer.
func (g *gathering) next() []byte {
	b := &g.buffers[g.turn%len(g.buffers)]
	g.turn++
	if *b == nil {
		*b = make([]byte, 0, pieceSize)
	}
	return *b
}

// flush gives what there is.
func (g *gathering) flush() error {
	if len(g.buffer) == 0 {
		return nil
	}
	piece := g.buffer
	g.buffer = nil
	return g.give(piece)
}

// each calls do with all pieces of the disk, in order.
func (m *Image) each(ctx context.Context, do func(at int64, s span) error) error {
	for at := int64(0); at < m.size; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s, err := m.at(at, step)
		if err == nil {
			err = do(at, s)
		}
		if err != nil {
			return err
		}
		at += s.length
	}
	return nil
}

// after is the rest of a span of data.
func (s span) after(n int64) span {
	s.length -= n
	if s.packed != nil {
		p := *s.packed
		p.skip += n
		s.packed = &p
	} else {
		s.host += n
	}
	return s
}

// copying gives a sink data, of which zeros are left out.
type copying struct {
	to Sink
	at int64 // bytes of the disk that it has
}

// zeros gives so many.
func (c *copying) zeros(n int64) error {
	c.at += n
	return c.to.Zeros(n)
}

func (c *copying) give(p []byte) error {
	for len(p) > 0 {
		n, zero := 0, false
		for n < len(p) {
			end := min(len(p), n+int(grain-(c.at+int64(n))%grain))
			is := bytes.Equal(p[n:end], nothing[:end-n])
			if n > 0 && is != zero {
				break
			}
			n, zero = end, is
		}
		err := error(nil)
		if zero {
			err = c.to.Zeros(int64(n))
		} else {
			_, err = c.to.Write(p[:n])
		}
		if err != nil {
			return err
		}
		c.at += int64(n)
		p = p[n:]
	}
	return nil
}

// Copy gives a sink a raw disk of which nobody knows the size yet, in the order in which it comes, until ctx ends. If that it is raw
// is only guessed, what ends as a fixed VHD does is refused.
func Copy(ctx context.Context, to Sink, from io.Reader, guessed bool, moved func(done, total int64)) error {
	c, buffer, last := copying{to: to}, make([]byte, pieceSize), make([]byte, 0, 2*vhdFooter)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(from, buffer)
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !ended {
			return err
		}
		if guessed && c.at == 0 {
			if err := notRaw("what comes on standard input", buffer[:min(n, 512)]); err != nil {
				return err
			}
		}
		if err := c.give(buffer[:n]); err != nil {
			return err
		}
		last = append(last[max(0, len(last)-vhdFooter):], buffer[max(0, n-vhdFooter):n]...)
		last = append(last[:0], last[max(0, len(last)-vhdFooter):]...)
		if !ended {
			moved(c.at, 0)
			continue
		}
		if guessed && isFixed(last, c.at) {
			return fault.Hint(fault.Errorf(fault.ErrInvalid, "standard input", "what came ends as a fixed VHD does"), "say --format vhd, or, if it is a raw disk all the same, --format raw")
		}
		moved(c.at, c.at)
		return to.End()
	}
}
