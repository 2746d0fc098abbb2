package load

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// content is what one block of a snapshot holds.
type content struct {
	torn   bool // neither zeros nor one whole write
	writer int
	number int // of the writer's operations, from 1; 0: the block is all zeros
}

func (c content) String() string {
	if c.number == 0 {
		return "zeros"
	}
	return fmt.Sprintf("write %d of writer %d", c.number, c.writer)
}

// verdict is what is wrong with a snapshot.
type verdict struct {
	Torn       int      `json:"torn"`         // blocks that hold what was never in them; files that are damaged, a filesystem that is
	OutOfOrder int      `json:"out_of_order"` // blocks that are not of the moment of all others
	Missing    int      `json:"missing"`      // blocks without what was acknowledged before the call
	Future     int      `json:"future"`       // blocks with what was issued after the answer
	Why        []string `json:"why,omitempty"`
}

func (v *verdict) wrong() int { return v.Torn + v.OutOfOrder + v.Missing + v.Future }

// enough is how many findings are told in words.
const enough = 5

func (v *verdict) found(count *int, n int, format string, args ...any) {
	*count += n
	if len(v.Why) < enough {
		v.Why = append(v.Why, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) add(o verdict) {
	v.Torn += o.Torn
	v.OutOfOrder += o.OutOfOrder
	v.Missing += o.Missing
	v.Future += o.Future
	v.Why = append(v.Why, o.Why...)
	v.Why = v.Why[:min(len(v.Why), enough)]
}

// window is moments: a moment is after the position in the global order that it is named by,
// and before the next one. Both ends are in it.
type window struct{ first, last uint64 }

// judge says what keeps the blocks of a disk from being what it held at one moment
// of the call.
//
// At a moment every operation is in that was acknowledged before, none that was issued after, and of
// one that was under way any of its blocks. So what an operation made of a block can be there
// from when it was issued until the next one to that block was acknowledged. That tells of each block
// the moments at which it can have held what it holds; zeros can be of several operations, or of
// none, and those are the moments of all. The snapshot is right if one moment is all blocks'.
func (h history) judge(c call, disk []content) (v verdict) {
	open := window{c.began, c.ended - 1}
	var good []candidates
	for i, b := range h.candidates(disk, open) {
		holds := disk[i]
		switch {
		case holds.torn:
			v.found(&v.Torn, 1, "block %d is torn: neither zeros nor one whole write to it", i)
		case holds.number > 0 && holds.number > len(h[holds.writer]):
			v.found(&v.Future, 1, "block %d holds %v, which had issued %d when the call was answered", i, holds, len(h[holds.writer]))
		case len(b.windows) > 0:
			good = append(good, b)
		case b.before:
			v.found(&v.Missing, 1, "block %d holds %v: what was acknowledged before the call is missing, %v", i, holds, b.newest)
		case b.after:
			v.found(&v.Future, 1, "block %d holds %v, which was issued after the call was answered", i, holds)
		default:
			v.found(&v.Torn, 1, "block %d holds %v, which went elsewhere", i, holds)
		}
	}
	moment, fit := commonest(good, open)
	v.OutOfOrder += len(good) - fit
	for _, b := range good {
		if !b.at(moment) && len(v.Why) < enough {
			v.found(new(int), 0, "block %d holds %v, and not what it held at the moment that fits %d of %d blocks (position %d of %d to %d): it did at %v", b.block, disk[b.block], fit, len(good), moment, c.began, c.ended, b.windows)
		}
	}
	return v
}

// candidates are the moments of a call at which a block can have held what it holds.
type candidates struct {
	block         int
	windows       []window // in order
	before, after bool     // there are such moments before the call, and after it
	newest        content  // of the block, that was acknowledged before the call
}

func (c candidates) at(moment uint64) bool {
	return slices.ContainsFunc(c.windows, func(w window) bool { return w.first <= moment && moment <= w.last })
}

// candidates finds those of each block in the moments that are open.
func (h history) candidates(disk []content, open window) []candidates {
	all := make([]candidates, len(disk))
	now := make([]numbered, len(disk)) // what was done to each last: at first nothing
	held := func(block int, last uint64) {
		b, w := &all[block], window{now[block].issued, last}
		switch b.block = block; {
		case now[block].content != disk[block]:
		case w.last < open.first:
			b.before = true
		case w.first > open.last:
			b.after = true
		default:
			b.windows = append(b.windows, window{max(w.first, open.first), min(w.last, open.last)})
		}
	}
	for _, one := range h.inOrder() {
		last := uint64(math.MaxUint64)
		if one.acked != 0 {
			last = one.acked - 1
		}
		for block := one.block; block < one.block+one.blocks; block++ {
			held(block, last)
			now[block] = one
			if last < open.first {
				all[block].newest = one.content
			}
		}
	}
	for block := range all {
		held(block, math.MaxUint64)
	}
	return all
}

// commonest finds the moment that is in the windows of the most blocks, and how many those are.
func commonest(blocks []candidates, open window) (moment uint64, fit int) {
	type edge struct {
		at   uint64
		step int
	}
	edges := []edge{{open.first, 0}}
	always := 0
	for _, b := range blocks {
		if b.windows[0] == open {
			always++
			continue
		}
		end := uint64(0)
		for i, w := range b.windows {
			if i > 0 && w.first <= end { // zeros twice: they were there all the time
				w.first = end + 1
			}
			if w.first > w.last {
				continue
			}
			end = w.last
			edges = append(edges, edge{w.first, 1}, edge{w.last + 1, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	now, most := 0, -1
	for i, e := range edges {
		now += e.step
		if next := i + 1; (next == len(edges) || edges[next].at > e.at) && now > most && e.at <= open.last {
			most, moment = now, e.at
		}
	}
	return moment, always + max(most, 0)
}
