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
func plan(d, newer *disk) (_ *planned, err error) {
	p := &planned{disk: d}
	freed := d.freed.with(runList{})
	var other cursor = newFileCursor(d.file, 0, 0) // nothing
	if newer != nil {
		other = newer.from(0)
	}
	p.runs, p.empty, err = freeable(d.rest(), other, d.size, func(b block) (int32, bool) {
		switch {
		case b.alone:
			return 0, true
		case newer != nil && b.keptBy(d.size, newer.size):
			return freed.owner(newer.key), true
		}
		return 0, false
	})
	if err != nil {
		return nil, err
	}
	p.freed, p.more = freed.with(p.runs), p.runs.count > 0
	if d.pending {
		p.runs, err = p.freed.unpunched(d)
	}
	return p, err
}

// keptBy says whether a block that two disks share is kept whole by the other one: a block in which the disk ends, only
// by one of the same size.
func (b block) keptBy(size, others int64) bool {
	return !b.differs && (b.first+b.count <= size/granularity || others == size)
}

// freeable walks over what a disk still has, and over another one beside it: the blocks that need not be kept, with the
// owner that ownerOf gives them, and the bytes that are allocated though nothing is in them.
func freeable(own, its cursor, size int64, ownerOf func(block) (owner int32, free bool)) (runs, empty runList, err error) {
	t := tally{tell: func(b block) {
		if owner, free := ownerOf(b); free {
			runs.add(run{b.first, b.count, owner})
		}
	}}
	err = together(own, its, 0, size, func(start, end int64, own, its segment) bool {
		if own.what == hole && own.allocated && !own.shared {
			empty.add(run{first: start, count: end - start})
		}
		if own.what != hole {
			t.add(start, end, block{stored: true, alone: own.allocated && !own.shared, differs: !same(own, its)})
		} else {
			t.add(start, end, block{differs: !same(own, its)})
		}
		return true
	})
	t.flush()
	return runs, empty, err
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
