package cbt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/fault"
)

func TestMark(t *testing.T) {
	for n := int64(1); n <= 40; n++ {
		for first := range n {
			for last := first; last < n; last++ {
				bits := make([]byte, (n+7)/8)
				mark(bits, first, last)
				var text strings.Builder
				for _, b := range bits {
					fmt.Fprintf(&text, "%08b", b)
				}
				want := strings.Repeat("0", int(first)) + strings.Repeat("1", int(last-first+1)) + strings.Repeat("0", len(bits)*8-int(last)-1)
				if text.String() != want {
					t.Fatalf("bits %d to %d of %d: %s", first, last, n, &text)
				}
			}
		}
	}
}

func TestWindow(t *testing.T) {
	const g = granularity
	for _, c := range []struct {
		size, offset, length int64
		first, count         int64
		wrong                string
	}{
		{10 * g, 0, -1, 0, 10, ""},
		{10*g + 4096, 0, -1, 0, 11, ""},
		{10*g + 4096, 10 * g, -1, 10, 1, ""},
		{10 * g, 1, 1, 0, 1, ""},
		{10 * g, g - 1, 2, 0, 2, ""},
		{10 * g, g, g, 1, 1, ""},
		{10 * g, g, g + 1, 1, 2, ""},
		{10 * g, 3 * g, 0, 3, 0, ""},
		{10 * g, 10 * g, -1, 10, 0, ""},
		{10 * g, 10 * g, 0, 10, 0, ""},
		{10 * g, -1, -1, 0, 0, "offset"},
		{10 * g, -1 << 63, 1, 0, 0, "offset"},
		{10 * g, 0, -2, 0, 0, "length"},
		{10 * g, 10*g + 1, -1, 0, 0, "offset"},
		{10 * g, 1<<63 - 1, 1<<63 - 1, 0, 0, "offset"},
		{10 * g, 1, 10 * g, 0, 0, "length"},
		{10 * g, 1, 1<<63 - 1, 0, 0, "length"},
		{1 << 60, 0, -1, 0, 0, "length"},
		{1 << 60, 0, bitmapLimit * 8 * g, 0, bitmapLimit * 8, ""},
		{1 << 60, g - 1, bitmapLimit * 8 * g, 0, 0, "length"},
		{1 << 60, 1<<60 - g, -1, 1<<60/g - 1, 1, ""},
	} {
		first, count, err := window(&disk{key: keyOf(1), size: c.size}, c.offset, c.length)
		if c.wrong == "" {
			if err != nil || first != c.first || count != c.count {
				t.Errorf("%d from %d of %d: %d blocks from %d on, %v; not %d from %d", c.length, c.offset, c.size, count, first, err, c.count, c.first)
			}
			continue
		}
		var e *fault.Error
		if !errors.As(err, &e) || e.Class != fault.ErrSize || e.Item != c.wrong {
			t.Errorf("%d from %d of %d: %v; the %s is wrong", c.length, c.offset, c.size, err, c.wrong)
		}
	}
}

// Every byte that was added is in a block, no block is without one, and the ranges are
// as few as can be.
func TestBlockList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		l := BlockList{BlockSize: 4096}
		want := map[int64]bool{}
		at := int64(0)
		for range r.IntN(30) {
			start := at + r.Int64N(3*4096)
			if r.IntN(3) == 0 {
				start = at
			}
			end := start + 1 + r.Int64N(3*4096)
			l.add(start, end)
			for b := start / 4096; b <= (end-1)/4096; b++ {
				want[b] = true
			}
			at = end
			if r.IntN(20) == 0 && len(l.Ranges) > 0 { // as if there were too many
				coarse := map[int64]bool{}
				for b := range want {
					coarse[b*4096/(2*l.BlockSize)] = true
				}
				was := blocksOf(l)
				l.coarsen()
				if got := blocksOf(l); len(got) != len(coarse) || !covers(got, coarse) {
					t.Fatalf("%v became %v", was, l)
				}
				break
			}
		}
		if l.BlockSize != 4096 {
			continue
		}
		if got := blocksOf(l); len(got) != len(want) || !covers(got, want) {
			t.Fatalf("%v, not %v", l, want)
		}
		for i := 1; i < len(l.Ranges); i++ {
			if l.Ranges[i-1][0]+l.Ranges[i-1][1] >= l.Ranges[i][0] {
				t.Fatalf("ranges that touch: %v", l)
			}
		}
	}
}

func blocksOf(l BlockList) map[int64]bool {
	blocks := map[int64]bool{}
	for _, r := range l.Ranges {
		for b := r[0]; b < r[0]+r[1]; b++ {
			blocks[b] = true
		}
	}
	return blocks
}

func covers(all, some map[int64]bool) bool {
	for b := range some {
		if !all[b] {
			return false
		}
	}
	return true
}

// Too many ranges are told in larger blocks, and none is forgotten.
func TestBlockListIsBounded(t *testing.T) {
	l := BlockList{BlockSize: 4096}
	const n = 3 * rangeLimit
	for i := range int64(n) {
		l.add(i*64<<10, i*64<<10+1) // a block of 16 at first
	}
	if len(l.Ranges) >= rangeLimit || l.BlockSize == 4096 {
		t.Fatalf("%d ranges of blocks of %d bytes", len(l.Ranges), l.BlockSize)
	}
	i := 0
	for at := range int64(n) {
		for i < len(l.Ranges) && (l.Ranges[i][0]+l.Ranges[i][1])*l.BlockSize <= at*64<<10 {
			i++
		}
		if i == len(l.Ranges) || l.Ranges[i][0]*l.BlockSize > at*64<<10 {
			t.Fatalf("byte %d is in no block", at*64<<10)
		}
	}
}

// A block is alone if a piece of it is, differs if a piece does, and is left out if
// nothing is in it.
func TestTally(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	const unit = 4096
	for range 3000 {
		var blocks []block
		ta := tally{tell: func(b block) { blocks = append(blocks, b) }}
		want := map[int64]block{}
		size := unit * (1 + r.Int64N(40*granularity/unit))
		for at := int64(0); at < size; {
			most := []int64{1, 8, 64, 200}[r.IntN(4)]
			end := min(size, at+unit*(1+r.Int64N(most)))
			b := block{stored: r.IntN(2) == 0, differs: r.IntN(2) == 0}
			if b.stored {
				b.alone = r.IntN(4) == 0
			}
			ta.add(at, end, b)
			for n := at / granularity; n <= (end-1)/granularity; n++ {
				w := want[n]
				want[n] = block{n, 1, w.stored || b.stored, w.alone || b.alone, w.differs || b.differs}
			}
			at = end
		}
		ta.flush()
		got := map[int64]block{}
		next := int64(0)
		for _, b := range blocks {
			if b.first < next || b.count < 1 {
				t.Fatalf("%+v", blocks)
			}
			next = b.first + b.count
			for n := b.first; n < next; n++ {
				one := b
				one.first, one.count = n, 1
				got[n] = one
			}
		}
		for n, w := range want {
			if g, ok := got[n]; ok != w.stored || ok && g != w {
				t.Fatalf("block %d of a disk of %d bytes is %+v, not %+v", n, size, g, w)
			}
		}
		if len(got) > len(want) {
			t.Fatalf("blocks %+v, of a disk of %d bytes", blocks, size)
		}
	}
}

// Two disks are walked over together without a gap, and what one has longer too.
func TestTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	const unit = 4096
	for range 1000 {
		sizes := [2]int64{unit * (1 + r.Int64N(300)), unit * (1 + r.Int64N(300))}
		a, b := someSegments(r, sizes[0], unit, 0), someSegments(r, sizes[1], unit, 0)
		ca, cb := slices.Clone(a), slices.Clone(b)
		to := max(sizes[0], sizes[1])
		at := int64(0)
		err := together(&ca, &cb, 0, to, func(start, end int64, x, y segment) bool {
			if start != at || end <= start || end > to {
				t.Fatalf("[%d, %d) after %d", start, end, at)
			}
			for ; at < end; at += unit {
				if wx, wy := where(a, sizes[0], at), where(b, sizes[1], at); wx.what != x.what || wx.place != x.place || wy.what != y.what || wy.place != y.place {
					t.Fatalf("at %d: %+v and %+v", at, x, y)
				}
			}
			return true
		})
		if err != nil || at != to {
			t.Fatal(at, to, err)
		}
	}
}

// Only what certainly is the same is the same.
func TestSame(t *testing.T) {
	all := []segment{
		{what: hole}, {what: hole, allocated: true}, {what: stored, place: 0}, {what: stored, place: 4096},
		{what: stored, place: -4096}, {what: unsure}, {what: freed, owner: keyOf(1)}, {what: freed, owner: keyOf(2)}, {what: beyond},
	}
	for i, a := range all {
		for j, b := range all {
			want := i == j && a.what != unsure || a.what == hole && b.what == hole
			if same(a, b) != want {
				t.Errorf("%+v and %+v: %v", a, b, !want)
			}
		}
	}
}
