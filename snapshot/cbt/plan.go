package cbt

import "reflinksr/internal/extent"

// planned is what a volume whose data was destroyed need not keep any more.
type planned struct {
	disk  *disk
	freed *freedBlocks
	more  bool    // freed is more than what is noted
	runs  runList // of freed: those that may still take space
	empty runList // bytes that are allocated, and nothing is in them
}

// plan finds the blocks that no other volume shares, and those that the next volume
// whose data was destroyed has as well: two that share a block only with each other
// would keep it for ever. A block in which a disk ends is kept only by one of the same
// size: a longer one has more in it, and loses it with that. newer may be nil.
func plan(d, newer *disk) (*planned, error) {
	p := &planned{disk: d}
	freed := d.freed.with(runList{})
	var other cursor = newFileCursor(d.file, 0, 0) // nothing
	if newer != nil {
		other = newer.from(0)
	}
	t := tally{tell: func(b block) {
		switch {
		case b.alone:
			p.runs.add(run{b.first, b.count, 0})
		case newer != nil && !b.differs && (b.first+b.count <= d.size/granularity || newer.size == d.size):
			p.runs.add(run{b.first, b.count, freed.owner(newer.key)})
		}
	}}
	err := together(d.rest(), other, 0, d.size, func(start, end int64, own, its segment) bool {
		if own.what == hole && own.allocated && !own.shared {
			p.empty.add(run{first: start, count: end - start})
		}
		if own.what != hole {
			t.add(start, end, block{stored: true, alone: own.allocated && !own.shared, differs: !same(own, its)})
		} else {
			t.add(start, end, block{differs: !same(own, its)})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	t.flush()
	p.freed, p.more = freed.with(p.runs), p.runs.count > 0
	if d.Pending {
		p.runs, err = p.freed.unpunched(d)
	}
	return p, err
}

// unpunched answers the runs that still take space.
func (l *freedBlocks) unpunched(d *disk) (runList, error) {
	var allocated runList
	end := int64(0)
	err := extent.Each(d.file, func(e extent.Extent) bool {
		first := max(e.Logical/granularity, end)
		end = (e.Logical+e.Length-1)/granularity + 1
		if end > first {
			allocated.add(run{first, end - first, 0})
		}
		return true
	})
	runs, _ := l.runs.cut(allocated)
	return runs, err
}
