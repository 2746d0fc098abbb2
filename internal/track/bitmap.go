package track

import "math/bits"

// Bitmap is a set of blocks. It takes a bit for each block near one that was in it, and
// little for the others. The zero value is not one.
type Bitmap struct {
	chunks []*chunk
	blocks int64
	n      int64 // how many are in it
}

const (
	chunkWords  = 512
	chunkBlocks = chunkWords * 64
)

type chunk [chunkWords]uint64

// full is every chunk of which all blocks are in a set. It is not changed.
var full = func() *chunk {
	c := new(chunk)
	for i := range c {
		c[i] = ^uint64(0)
	}
	return c
}()

func (c *chunk) len() (n int64) {
	if c != nil {
		for _, word := range c {
			n += int64(bits.OnesCount64(word))
		}
	}
	return n
}

// NewBitmap is the empty set of blocks below a number.
func NewBitmap(blocks int64) *Bitmap {
	return &Bitmap{chunks: make([]*chunk, (blocks+chunkBlocks-1)/chunkBlocks), blocks: blocks}
}

// Len is how many blocks are in it.
func (b *Bitmap) Len() int64 { return b.n }

// words calls do for each word of the blocks [from, to), with a mask of those in it. Where
// fill is false it leaves out what is empty. If not told that do changes it, it shows what others have as well.
func (b *Bitmap) words(from, to int64, fill, change bool, do func(word *uint64, mask uint64)) {
	to = min(to, b.blocks)
	for at := max(from, 0); at < to; {
		c := b.chunks[at/chunkBlocks]
		if c == nil {
			if !fill {
				at = (at/chunkBlocks + 1) * chunkBlocks
				continue
			}
			c = new(chunk)
			b.chunks[at/chunkBlocks] = c
		}
		if c == full && change {
			c = new(chunk)
			*c = *full
			b.chunks[at/chunkBlocks] = c
		}
		end := min(to, at/64*64+64)
		mask := ^uint64(0) << (at % 64)
		if end%64 != 0 {
			mask &= 1<<(end%64) - 1
		}
		do(&c[at%chunkBlocks/64], mask)
		at = end
	}
}

// wholes makes whole chunks of [from, to) one that is given, and answers what is before or after them. A
// range with blocks on both sides of whole chunks is done in two steps.
func (b *Bitmap) wholes(from, to int64, made *chunk) (int64, int64) {
	from, to = max(from, 0), min(to, b.blocks)
	first, last := (from+chunkBlocks-1)/chunkBlocks, to/chunkBlocks
	if first >= last {
		return from, to
	}
	for i := first; i < last; i++ {
		b.n += made.len() - b.chunks[i].len()
		b.chunks[i] = made
	}
	if from < first*chunkBlocks && last*chunkBlocks < to {
		if made == nil {
			b.Clear(from, first*chunkBlocks)
		} else {
			b.Set(from, first*chunkBlocks)
		}
		return last * chunkBlocks, to
	}
	if from < first*chunkBlocks {
		return from, first * chunkBlocks
	}
	return last * chunkBlocks, to
}

// Set puts the blocks [from, to) into it. What is outside is left out.
func (b *Bitmap) Set(from, to int64) {
	from, to = b.wholes(from, to, full)
	b.words(from, to, true, true, func(word *uint64, mask uint64) {
		b.n += int64(bits.OnesCount64(mask &^ *word))
		*word |= mask
	})
}

// Clear takes the blocks [from, to) out.
func (b *Bitmap) Clear(from, to int64) {
	from, to = b.wholes(from, to, nil)
	b.words(from, to, false, true, func(word *uint64, mask uint64) {
		b.n -= int64(bits.OnesCount64(mask & *word))
		*word &^= mask
	})
}

// Any says whether one of the blocks [from, to) is in it.
func (b *Bitmap) Any(from, to int64) (any bool) {
	b.words(from, to, false, false, func(word *uint64, mask uint64) { any = any || *word&mask != 0 })
	return any
}

// Reset takes out everything.
func (b *Bitmap) Reset() {
	clear(b.chunks)
	b.n = 0
}

// Add puts in what is in another set of as many blocks.
func (b *Bitmap) Add(o *Bitmap) {
	for _, r := range o.Runs() {
		b.Set(r.From, r.To)
	}
}

// Run is the blocks [From, To).
type Run struct{ From, To int64 }

// Runs lists what is in it, in order, as few runs as there can be.
func (b *Bitmap) Runs() (runs []Run) {
	for i, c := range b.chunks {
		if c == nil {
			continue
		}
		for j, word := range c {
			at := int64(i)*chunkBlocks + int64(j)*64
			for word != 0 {
				skip := bits.TrailingZeros64(word)
				length := bits.TrailingZeros64(^(word >> skip))
				from := at + int64(skip)
				if n := len(runs); n > 0 && runs[n-1].To == from {
					runs[n-1].To += int64(length)
				} else {
					runs = append(runs, Run{from, from + int64(length)})
				}
				if skip+length == 64 {
					break
				}
				word &^= 1<<(skip+length) - 1
			}
		}
	}
	return runs
}
