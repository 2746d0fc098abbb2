package load

import (
	"fmt"
	"sync/atomic"
	"time"
)

// order is one global order of what happens: every event takes the next position.
type order struct{ last atomic.Uint64 }

func (o *order) next() uint64 { return o.last.Add(1) }

// write is one write of a block.
type write struct {
	block  int    // on the disk
	issued uint64 // when in the global order it was begun
	acked  uint64 // and acknowledged; 0: not yet
	took   time.Duration
}

// history is what every writer has written, in its order: write n is at n-1. No two
// writers write to the same block.
type history [][]write

// call is when a snapshot was called for, and when that was answered.
type call struct{ began, ended uint64 }

// content is what one block of a snapshot holds.
type content struct {
	torn   bool // neither zeros nor one whole write
	writer int
	number int // of the writer's writes, from 1; 0: the block is all zeros
}

// verdict is what is wrong with a snapshot.
type verdict struct {
	Torn       int      `json:"torn"`         // blocks that are no whole write; files that are damaged, a filesystem that is
	OutOfOrder int      `json:"out_of_order"` // writes that are missing while a later one is there
	Missing    int      `json:"missing"`      // writes that are missing and were acknowledged before the call
	Future     int      `json:"future"`       // writers of whom a write is there that was issued after the answer
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

// judge says what keeps the blocks of a disk from being what it held at one moment
// of the call.
//
// A writer waits for each write before the next: at one moment there is a prefix of
// its writes, and that is as long as the number of its newest one. A write that was
// issued after another was acknowledged is there only if that one is, whoever wrote it.
func (h history) judge(c call, disk []content) (v verdict) {
	there := h.prefixes(c, disk, &v)
	h.checkBlocks(c, disk, there, &v)
	for u := range h {
		due := h.ackedBefore(u, c.began)
		if due > there[u] {
			v.found(&v.Missing, due-there[u], "writer %d: %d of its writes are there, %d had been acknowledged before the call", u, there[u], due)
		}
		for w, n := range there {
			if n == 0 {
				continue
			}
			newest := h[w][n-1]
			if before := h.ackedBefore(u, newest.issued); before > max(there[u], due) {
				v.found(&v.OutOfOrder, before-max(there[u], due), "writer %d: its write %d is missing; writer %d's write %d, which was issued after that had been acknowledged, is there", u, before, w, n)
				break
			}
		}
	}
	return v
}

// prefixes finds how many writes of each writer are there, by its newest.
func (h history) prefixes(c call, disk []content, v *verdict) []int {
	there := make([]int, len(h))
	for i, b := range disk {
		switch {
		case b.torn:
			v.found(&v.Torn, 1, "block %d is torn: neither zeros nor one whole write to it", i)
		case b.number > 0:
			there[b.writer] = max(there[b.writer], b.number)
		}
	}
	for w, n := range there {
		if n > len(h[w]) {
			v.found(&v.Future, 1, "writer %d: its write %d is there, and it had issued %d when the call was answered", w, n, len(h[w]))
			there[w] = len(h[w])
		} else if n > 0 && h[w][n-1].issued > c.ended {
			v.found(&v.Future, 1, "writer %d: its write %d is there, and was issued after the call was answered", w, n)
		}
	}
	return there
}

// checkBlocks compares every block with what the prefixes left in it.
func (h history) checkBlocks(c call, disk []content, there []int, v *verdict) {
	want := make([]content, len(disk))
	for w, n := range there {
		for i, one := range h[w][:n] {
			want[one.block] = content{writer: w, number: i + 1}
		}
	}
	for i, b := range disk {
		w := want[i]
		switch {
		case b == w || b.torn:
		case b.number > 0 && b.number > len(h[b.writer]):
			// Issued after the answer: that has been told.
		case w.number == 0 || b.number > w.number || b.number > 0 && b.writer != w.writer:
			v.found(&v.Torn, 1, "block %d holds write %d of writer %d, which went elsewhere", i, b.number, b.writer)
		case h[w.writer][w.number-1].acked != 0 && h[w.writer][w.number-1].acked < c.began:
			v.found(&v.Missing, 1, "writer %d: its write %d to block %d is missing, which had been acknowledged before the call", w.writer, w.number, i)
		default:
			v.found(&v.OutOfOrder, 1, "writer %d: its write %d to block %d is missing, its write %d is there", w.writer, w.number, i, there[w.writer])
		}
	}
}

// ackedBefore is how many writes of a writer had been acknowledged at a position.
func (h history) ackedBefore(writer int, position uint64) int {
	low, high := 0, len(h[writer])
	for low < high {
		middle := (low + high) / 2
		if w := h[writer][middle]; w.acked != 0 && w.acked < position {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// during counts the writes that were under way at some time of the call, and finds
// the longest that one of them took.
func (h history) during(c call) (writes int, longest time.Duration) {
	for _, all := range h {
		for _, w := range all {
			if w.issued < c.ended && w.acked > c.began {
				writes++
				longest = max(longest, w.took)
			}
		}
	}
	return writes, longest
}
