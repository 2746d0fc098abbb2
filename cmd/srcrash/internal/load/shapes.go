package load

import (
	"math/rand/v2"
	"sync/atomic"
)

// largest is how many blocks an operation has at most: 256 KiB.
const largest = 64

// shape is a load of operations that are acknowledged by the disk.
type shape struct {
	name    string
	writers int
	iops    int                    // in a second, of all together; 0: as many as there can be
	next    func(p place) choose   // what one writer does
	disturb func(*field) *disturbs // what befalls the calls; nil: nothing
}

// place is the part of a disk that is one writer's: stripes of the size of the largest operation.
type place struct {
	writer, writers int
	stripes         int // on the disk
	apart           int // of so many of these one is written to
}

// blocks is how many of the disk's are in it.
func (p place) blocks() int { return p.stripes / p.apart / p.writers * largest }

// at is one of them, by its number in the place.
func (p place) at(n int) int {
	return (n/largest*p.writers+p.writer)*p.apart*largest + n%largest
}

// write is an operation on so many blocks from the n-th of the place on, or less where their stripe ends.
func (p place) write(k kind, n, blocks int) write {
	return write{kind: k, block: p.at(n), blocks: min(blocks, largest-n%largest)}
}

// shapes are the loads whose disk is in many pieces from the beginning.
var shapes = []shape{
	{name: "random", writers: 8, next: random},
	{name: "paced", writers: 8, iops: 1000, next: random},
	{name: "mixed", writers: 4, next: mixed},
	{name: "mixed-paced", writers: 4, iops: 500, next: mixed},
	{name: "hot", writers: 16, next: hot},
	{name: "wal", writers: 4, next: wal},
	{name: "many", writers: 32, next: mixed},
	{name: "one", writers: 1, next: mixed},
	{name: "lost", writers: 4, next: random, disturb: loseEvents},
	{name: "reattached", writers: 4, iops: 1000, next: mixed, disturb: reattach},
	{name: "second", writers: 4, iops: 1000, next: mixed, disturb: secondDevice},
	{name: "killed", writers: 4, iops: 1000, next: mixed, disturb: kill},
}

// random writes single blocks anywhere.
func random(p place) choose {
	return func(r *rand.Rand) write { return p.write(written, r.IntN(p.blocks()), 1) }
}

// mixed writes, discards and zeroes anywhere, 4 KiB to 256 KiB at a time: mostly little.
func mixed(p place) choose {
	return func(r *rand.Rand) write {
		size := 1
		for size < largest && r.IntN(2) == 0 {
			size *= 2
		}
		size -= r.IntN(size) / 2 // no power of two as well
		return p.write(anyKind(r), r.IntN(p.blocks()), size)
	}
}

func anyKind(r *rand.Rand) kind {
	switch r.IntN(8) {
	case 0:
		return discarded
	case 1:
		return zeroed
	}
	return written
}

// hot rewrites few blocks again and again, far from each other.
func hot(p place) choose {
	const blocks = 4
	return func(r *rand.Rand) write {
		return p.write(anyKind(r), r.IntN(blocks)*(p.blocks()/blocks), 1)
	}
}

// wal is a database: a log that is written in order, each block twice and then from the beginning again, and
// pages of 16 KiB, most of them out of few, anywhere.
func wal(p place) choose {
	const page = 4
	log, n := p.blocks()/8/page*page, 0
	return func(r *rand.Rand) write {
		pages := (p.blocks() - log) / page
		switch {
		case r.IntN(2) == 0:
			n++
			return p.write(written, n/2%log, 1)
		case r.IntN(10) < 8:
			pages = max(1, pages/20)
		}
		return p.write(written, log+r.IntN(pages)*page, page)
	}
}

// spans are how many blocks, all over the disk, are written to, one after the other in
// the course of a run: the disk has few extents at first and many at the end, and a
// snapshot takes long when there are many.
var spans = []int{64, 512, 2048, growingBlocks}

// growing writes single blocks, of n writers' to each n-th, out of a span of the disk.
func growing(span *atomic.Int64, writer, n int) choose {
	return func(r *rand.Rand) write {
		span := int(span.Load())
		return write{block: r.IntN(span/n)*(growingBlocks/span)*n + writer, blocks: 1}
	}
}
