package opennebula

import (
	"encoding/binary"
	"errors"
	"io"

	"reflinksr/internal/fault"
)

// piece is how much of a part is sent at once, in bytes.
const piece = 1 << 20

// Parts sends files, one after the other, so that whoever reads them tells the end of one from a connection that broke off.
type Parts struct{ to io.Writer }

// NewParts sends to a writer.
func NewParts(to io.Writer) *Parts { return &Parts{to} }

// Send sends all that a reader has. The part that it is of goes on until End.
func (p *Parts) Send(from io.Reader) error {
	buf := make([]byte, 4+piece)
	for {
		n, err := io.ReadFull(from, buf[4:])
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n)) // #nosec G115 -- a piece at most
			if _, err := p.to.Write(buf[:4+n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// End says that the part is whole.
func (p *Parts) End() error {
	_, err := p.to.Write(make([]byte, 4))
	return err
}

// Part reads one part of what Parts has sent, up to io.EOF; then the reader is at the next.
func Part(from io.Reader) io.Reader { return &part{from: from} }

type part struct {
	from io.Reader
	left uint32
	done bool
}

func (p *part) Read(b []byte) (int, error) {
	if p.done {
		return 0, io.EOF
	}
	if p.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(p.from, head[:]); err != nil {
			return 0, broken(err)
		}
		switch p.left = binary.BigEndian.Uint32(head[:]); {
		case p.left == 0:
			p.done = true
			return 0, io.EOF
		case p.left > piece:
			p.left = 0
			return 0, fault.Errorf(fault.ErrInvalid, "part", "what comes makes no sense: do both hosts have the same onereflink? onehost sync -f")
		}
	}
	n, err := p.from.Read(b[:min(len(b), int(p.left))])
	p.left -= uint32(n) // #nosec G115 -- what was left at most
	if n > 0 {
		return n, nil
	}
	return 0, broken(err)
}

// broken is the error of a connection that ended where a part has not.
func broken(err error) error {
	if err == io.EOF {
		return fault.Errorf(fault.ErrUnavailable, "part", "what was to come broke off: %w", io.ErrUnexpectedEOF)
	}
	return err
}
