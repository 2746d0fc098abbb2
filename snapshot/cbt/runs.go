package cbt

import (
	"encoding/binary"
	"iter"
	"slices"
)

// run is a number of blocks with one owner.
type run struct {
	first, count int64 // blocks
	owner        int32 // in freedBlocks.owners
}

func (r run) end() int64 { return r.first + r.count }

// runList holds runs in order, not overlapping, of which those that touch have
// different owners. A disk in pieces has millions: they are held as they are written
// (freedMagic), a few bytes each.
type runList struct {
	chunks [][]byte // all but the last run; each begins and ends with a run
	end    int64    // of the last in chunks
	last   run
	count  int // all
}

// runBytes is the most that a run takes.
const runBytes = 3 * binary.MaxVarintLen64

// add adds a run that comes after all others.
func (l *runList) add(r run) {
	if l.count > 0 && l.last.end() == r.first && l.last.owner == r.owner {
		l.last.count += r.count
		return
	}
	if l.count > 0 {
		n := len(l.chunks) - 1
		if n < 0 || cap(l.chunks[n])-len(l.chunks[n]) < runBytes {
			n++
			l.chunks = append(l.chunks, make([]byte, 0, 256<<min(n, 8)))
		}
		l.chunks[n] = appendCoded(l.chunks[n], l.end, l.last)
		l.end = l.last.end()
	}
	l.last = r
	l.count++
}

// clone answers a list of the same runs. What is added to one is not in the other.
func (l runList) clone() runList {
	l.chunks = slices.Clone(l.chunks)
	if n := len(l.chunks) - 1; n >= 0 {
		l.chunks[n] = slices.Clip(l.chunks[n])
	}
	return l
}

// appendCoded adds a run to b as it is written after one that has the given end.
func appendCoded(b []byte, end int64, r run) []byte {
	for _, n := range []int64{r.first - end, r.count, int64(r.owner)} {
		b = binary.AppendUvarint(b, uint64(n)) // #nosec G115 -- not negative
	}
	return b
}

// coded answers all runs as they are written, in pieces.
func (l runList) coded() [][]byte {
	if l.count == 0 {
		return nil
	}
	return append(slices.Clip(l.chunks), appendCoded(nil, l.end, l.last))
}

// walk answers a walker at the first run.
func (l runList) walk() *runWalker {
	w := &runWalker{chunks: l.chunks, last: l.last}
	w.next()
	return w
}

// all goes through the list.
func (l runList) all() iter.Seq[run] {
	return func(yield func(run) bool) {
		for w := l.walk(); w.now.count > 0; w.next() {
			if !yield(w.now) {
				return
			}
		}
	}
}

// runWalker walks over a runList.
type runWalker struct {
	now    run // count is 0 after the end
	chunks [][]byte
	last   run
	rest   []byte // of the chunk that it is in
	end    int64  // of the run before
}

func (w *runWalker) next() {
	for len(w.rest) == 0 && len(w.chunks) > 0 {
		w.rest, w.chunks = w.chunks[0], w.chunks[1:]
	}
	if len(w.rest) == 0 {
		w.now, w.last = w.last, run{}
		return
	}
	w.now = run{w.end + w.number(), w.number(), int32(w.number())} // #nosec G115 -- as appendCoded was given it
	w.end = w.now.end()
}

func (w *runWalker) number() int64 {
	n, length := binary.Uvarint(w.rest)
	w.rest = w.rest[length:]
	return int64(n) // #nosec G115 -- as appendCoded was given it
}

// cut parts runs into those blocks that are in by and those that are not.
func (l runList) cut(by runList) (in, out runList) {
	b := by.walk()
	for r := range l.all() {
		for r.count > 0 {
			for b.now.count > 0 && b.now.end() <= r.first {
				b.next()
			}
			piece, to := r, &out
			switch {
			case b.now.count == 0 || b.now.first >= r.end():
			case b.now.first > r.first:
				piece.count = b.now.first - r.first
			default:
				piece.count, to = min(r.end(), b.now.end())-r.first, &in
			}
			to.add(piece)
			r.first, r.count = r.first+piece.count, r.count-piece.count
		}
	}
	return in, out
}

// ownedBy answers the same blocks with one owner.
func (l runList) ownedBy(owner int32) (owned runList) {
	for r := range l.all() {
		r.owner = owner
		owned.add(r)
	}
	return owned
}
