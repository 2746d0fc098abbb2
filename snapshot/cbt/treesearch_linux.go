package cbt

import (
	"os"

	"reflinksr/internal/extent"
)

// treeCursor walks over a whole file on btrfs by the items of its subvolume's tree.
// That is several times as fast as FIEMAP, which finds out of each extent who shares
// it, and it tells compressed blocks apart. What is shared it does not tell.
//
// Whoever makes one has called extent.InTree: what is not there yet has no item. If somebody may
// write to the file meanwhile, that there is no item means nothing: that of what is
// written anew can be gone for a moment before the new one is there, and nothing is locked
// against that.
type treeCursor struct {
	items *extent.Items
	size  int64
	at    int64
	ended bool // there are no more
	ahead segment
}

// newTreeCursor needs a file on btrfs and CAP_SYS_ADMIN: an error is no more than that
// there is no such cursor.
func newTreeCursor(f *os.File, size int64) (*treeCursor, error) {
	items, err := extent.NewItems(f, 0)
	return &treeCursor{items: items, size: size}, err
}

func (c *treeCursor) next() (segment, error) {
	if c.at >= c.size {
		return segment{start: c.at, end: endless, what: beyond}, nil
	}
	for !c.ended && c.ahead.end <= c.at {
		i, ok, err := c.items.Next()
		if err != nil {
			return segment{}, err
		}
		if c.ended = !ok; ok {
			c.ahead = segmentOf(i)
		}
	}
	g := segment{start: c.at, end: c.size}
	switch {
	case c.ahead.end <= c.at: // there are no more
	case c.ahead.start > c.at:
		g.end = min(c.ahead.start, c.size)
	default:
		g = c.ahead
		g.start, g.end = c.at, min(g.end, c.size)
	}
	c.at = g.end
	return g, nil
}

func segmentOf(i extent.Item) segment {
	g := segment{start: i.Start, end: i.Start + i.Length, what: unsure, allocated: true}
	switch i.Kind {
	case extent.ItemHole:
		g.what, g.allocated = hole, false
	case extent.ItemUnwritten:
		g.what = hole
	case extent.ItemCompressed: // the same place in the same extent is the same bytes
		g.what, g.extent, g.place = stored, i.Disk, i.Offset-i.Start
	case extent.ItemPlain:
		g.what, g.place = stored, i.Disk+i.Offset-i.Start
	}
	return g
}
