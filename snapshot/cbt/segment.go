package cbt

import (
	"os"

	"reflinksr/internal/extent"
	"reflinksr/sr"
)

// segment is a piece of a disk and what its contents are known by. Two disks hold the
// same bytes where their segments are the same; where they are not, they may.
//
// Both files must exist while their segments are compared: a block that is given back
// can be given out again, to hold something else.
type segment struct {
	start, end int64 // bytes
	what       kind
	extent     int64  // stored, and compressed: in which extent; else 0
	place      int64  // stored: where the filesystem has byte 0 of the disk, were it all in one piece
	owner      sr.Key // freed: the volume that was the last to have it

	allocated bool // it takes space in the file
	shared    bool // and other files have the same blocks, as far as the filesystem knows
}

type kind uint8

const (
	hole   kind = iota // reads as zeros: never written, discarded, or allocated and unwritten
	stored             // in blocks of the filesystem
	unsure             // the filesystem does not say where
	freed              // no volume has it any more
	beyond             // after the end of the disk
)

// same says whether two segments certainly hold the same bytes, where both are.
func same(a, b segment) bool {
	if a.what != b.what {
		return false
	}
	switch a.what {
	case hole, beyond:
		return true
	case stored:
		return a.extent == b.extent && a.place == b.place
	case freed:
		return a.owner == b.owner
	}
	return false
}

// cursor walks over a disk. next answers the segment at which the disk continues after
// the last one; after the end that is one without end.
type cursor interface {
	next() (segment, error)
}

// endless is the end of every disk.
const endless = 1<<63 - 1

// fileCursor walks over a file whose data is all its own.
type fileCursor struct {
	extents extent.Cursor
	size    int64
	at      int64
	ahead   extent.Extent // begins at or after at; valid if have
	have    bool
}

func newFileCursor(f *os.File, size, from int64) *fileCursor {
	return &fileCursor{extents: extent.NewCursor(f, from), size: size, at: from}
}

func (c *fileCursor) next() (segment, error) {
	if c.at >= c.size {
		return segment{start: c.at, end: endless, what: beyond}, nil
	}
	for !c.have || c.ahead.Logical+c.ahead.Length <= c.at {
		e, ok, err := c.extents.Next()
		if err != nil {
			return segment{}, err
		}
		if !ok {
			e = extent.Extent{Logical: endless - 1, Length: 1}
		}
		c.ahead, c.have = e, true
	}
	g := segment{start: c.at, end: min(c.ahead.Logical, c.size)}
	if c.ahead.Logical <= c.at {
		g.end = min(c.ahead.Logical+c.ahead.Length, c.size)
		g.allocated, g.shared = true, c.ahead.Shared()
		switch {
		case c.ahead.Unwritten():
		case c.ahead.Vague():
			g.what = unsure
		default:
			g.what, g.place = stored, c.ahead.Physical-c.ahead.Logical
		}
	}
	c.at = g.end
	return g, nil
}

// walker is a cursor that can be asked for any place, in rising order.
type walker struct {
	cursor
	now segment
}

// at answers the rest of the segment that holds the byte at.
func (w *walker) at(at int64) (segment, error) {
	for w.now.end <= at {
		var err error
		if w.now, err = w.next(); err != nil {
			return segment{}, err
		}
	}
	g := w.now
	g.start = at
	return g, nil
}

// together calls visit with every range of [from, to) over which both disks have one
// segment, in order, until that answers false.
func together(a, b cursor, from, to int64, visit func(start, end int64, x, y segment) bool) error {
	left, right := walker{cursor: a}, walker{cursor: b}
	for at := from; at < to; {
		x, err := left.at(at)
		if err != nil {
			return err
		}
		y, err := right.at(at)
		if err != nil {
			return err
		}
		end := min(x.end, y.end, to)
		if !visit(at, end, x, y) {
			return nil
		}
		at = end
	}
	return nil
}
