package load

import (
	"slices"
	"sync/atomic"
	"time"
)

// order is one global order of what happens: every event takes the next position.
type order struct{ last atomic.Uint64 }

func (o *order) next() uint64 { return o.last.Add(1) }

// kind is what an operation does.
type kind int

const (
	written   kind = iota // blocks that tell of the operation
	zeroed                // write-zeroes: blocks that are all zeros, and allocated
	discarded             // blocks that are all zeros, and given back
)

// write is one operation on a disk, on one block or on several that follow each other.
type write struct {
	kind   kind
	block  int    // the first
	blocks int    // how many
	issued uint64 // when in the global order it was begun
	acked  uint64 // and acknowledged; 0: not yet
	took   time.Duration
}

// history is what every writer has done, in its order: number n is at n-1. No two
// operations on a block are under way at once.
type history [][]write

// call is when a snapshot was called for, and when that was answered.
type call struct{ began, ended uint64 }

// numbered is one operation with its place in the history.
type numbered struct {
	write
	content // of the blocks when it is done
}

// inOrder lists all of it as it was issued.
func (h history) inOrder() []numbered {
	var all []numbered
	for writer, some := range h {
		for i, w := range some {
			c := content{}
			if w.kind == written {
				c = content{writer: writer, number: i + 1}
			}
			all = append(all, numbered{w, c})
		}
	}
	slices.SortFunc(all, func(a, b numbered) int {
		if a.issued < b.issued {
			return -1
		}
		return 1
	})
	return all
}

// during lists how long each operation took that was under way at some time of a call.
func (h history) during(c call) (times []time.Duration) {
	for _, all := range h {
		for _, w := range all {
			if w.issued < c.ended && w.acked > c.began {
				times = append(times, w.took)
			}
		}
	}
	return times
}
