package extent

import "os"

// Differences calls do with the pieces of two files, of which nobody writes to either, in which they may hold something else, in order, up to a place: all in
// which they do not share their blocks, nor both hold nothing.
func Differences(a, b *os.File, to int64, do func(start, end int64) error) error {
	x, y := stretches{c: NewCursor(a, 0)}, stretches{c: NewCursor(b, 0)}
	for at := int64(0); at < to; {
		p, err := x.at(at)
		if err != nil {
			return err
		}
		q, err := y.at(at)
		if err != nil {
			return err
		}
		end := min(p.end, q.end, to)
		if p.data != q.data || p.data && (p.vague || q.vague || p.disk != q.disk) {
			if err := do(at, end); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// stretches tells of one place after the other what a file holds there.
type stretches struct {
	c    Cursor
	next Extent
	have bool // next is one
	done bool // there are no more
}

// stretch is what a file holds from one place on: up to end all is alike.
type stretch struct {
	end         int64
	data, vague bool
	disk        int64 // where it is, of data
}

func (p *stretches) at(offset int64) (stretch, error) {
	for !p.done && (!p.have || p.next.Logical+p.next.Length <= offset) {
		var err error
		if p.next, p.have, err = p.c.Next(); err != nil {
			return stretch{}, err
		}
		p.done = !p.have
	}
	switch {
	case p.done:
		return stretch{end: 1<<63 - 1}, nil
	case p.next.Logical > offset:
		return stretch{end: p.next.Logical}, nil
	}
	e := p.next
	return stretch{end: e.Logical + e.Length, data: !e.Unwritten(), vague: e.Vague(), disk: e.Physical + offset - e.Logical}, nil
}
