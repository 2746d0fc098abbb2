package load

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Two writers and six blocks: writer 0 has blocks 0 to 2, writer 1 has 3 to 5. Time
// goes from 1 to 20; the call begins at 9 and ends at 14.
var (
	ofTwo = history{
		{{block: 0, blocks: 1, issued: 1, acked: 2}, {block: 1, blocks: 1, issued: 5, acked: 6}, {block: 0, blocks: 1, issued: 10, acked: 11}, {block: 2, blocks: 1, issued: 15, acked: 16}},
		{{block: 3, blocks: 1, issued: 3, acked: 4}, {block: 4, blocks: 1, issued: 7, acked: 8}, {block: 5, blocks: 1, issued: 12, acked: 13}, {block: 3, blocks: 1, issued: 17}},
	}
	between = call{began: 9, ended: 14}
)

// blocks makes a disk from the numbers of the writes in them.
func blocks(numbers ...int) []content {
	disk := make([]content, len(numbers))
	for i, n := range numbers {
		if n > 0 {
			disk[i] = content{writer: i / 3, number: n}
		}
	}
	return disk
}

// One writer and four blocks. The call begins at 9 and ends at 20.
//
//	1  2     blocks 0 to 3 are written
//	3  4     blocks 2 and 3 are discarded
//	7  12    blocks 0 and 1 are zeroed
//	13 14    blocks 1 to 3 are written
//	15 16    block 3 is discarded
//	17       block 0 is written
//	21 22    blocks 1 and 2 are discarded
var ofMany = history{{
	{written, 0, 4, 1, 2, 0}, {discarded, 2, 2, 3, 4, 0}, {zeroed, 0, 2, 7, 12, 0}, {written, 1, 3, 13, 14, 0}, {discarded, 3, 1, 15, 16, 0}, {written, 0, 1, 17, 0, 0},
	{discarded, 1, 2, 21, 22, 0},
}}

func TestJudge(t *testing.T) {
	torn := blocks(3, 2, 0, 1, 2, 3)
	torn[1] = content{torn: true}
	strange := blocks(3, 2, 0, 1, 2, 3)
	strange[2] = content{writer: 0, number: 2}
	longer := call{began: 9, ended: 20}
	one := func(numbers ...int) []content {
		disk := blocks(numbers...)
		for i := range disk {
			disk[i].writer = 0
		}
		return disk
	}
	for _, test := range []struct {
		name string
		h    history
		c    call
		disk []content
		want verdict
	}{
		{"what was acknowledged before the call", ofTwo, between, blocks(1, 2, 0, 1, 2, 0), verdict{}},
		{"a write during the call", ofTwo, between, blocks(3, 2, 0, 1, 2, 0), verdict{}},
		{"both writes during the call", ofTwo, between, blocks(3, 2, 0, 1, 2, 3), verdict{}},
		{"a torn block", ofTwo, between, torn, verdict{Torn: 1}},
		{"a write where it was not made", ofTwo, between, strange, verdict{Torn: 1}},
		{"a gap of one writer, acknowledged before the call", ofTwo, between, blocks(3, 0, 0, 1, 2, 3), verdict{Missing: 1}},
		{"the later of two writers' writes during the call without the earlier", ofTwo, between, blocks(1, 2, 0, 1, 2, 3), verdict{OutOfOrder: 1}},
		{"the last acknowledged write is missing", ofTwo, between, blocks(3, 2, 0, 1, 0, 0), verdict{Missing: 1}},
		{"nothing is there", ofTwo, between, blocks(0, 0, 0, 0, 0, 0), verdict{Missing: 4}},
		{"a write issued after the answer", ofTwo, between, blocks(3, 2, 4, 1, 2, 3), verdict{Future: 1}},
		{"a write that nobody has issued", ofTwo, between, blocks(3, 2, 5, 1, 2, 3), verdict{Future: 1}},
		{"a write issued after the answer, not acknowledged", ofTwo, between, blocks(3, 2, 4, 4, 2, 3), verdict{Future: 2}},

		{"before what is under way", ofMany, longer, one(1, 1, 0, 0), verdict{}},
		{"one block of what is under way", ofMany, longer, one(0, 1, 0, 0), verdict{}},
		{"the other block of it", ofMany, longer, one(1, 0, 0, 0), verdict{}},
		{"all of it", ofMany, longer, one(0, 0, 0, 0), verdict{}},
		{"blocks of the next, and not all of the one before", ofMany, longer, one(1, 4, 4, 4), verdict{OutOfOrder: 1}},
		{"a part of the next", ofMany, longer, one(0, 0, 4, 0), verdict{}},
		{"another part of the next", ofMany, longer, one(0, 4, 0, 4), verdict{}},
		{"all of the next, and the discard after it or not yet", ofMany, longer, one(0, 4, 4, 4), verdict{}},
		{"a discard, and not all of the write before it", ofMany, longer, one(6, 4, 0, 0), verdict{OutOfOrder: 1}},
		{"zeros of before the write or of the discard after it, one moment of each", ofMany, longer, one(0, 4, 4, 0), verdict{}},
		{"zeros that can only be of the discard", ofMany, longer, one(6, 4, 4, 0), verdict{}},
		{"the last without what was discarded before it", ofMany, longer, one(6, 4, 4, 4), verdict{OutOfOrder: 1}},
		{"what was discarded before the call", ofMany, longer, one(0, 0, 1, 0), verdict{Missing: 1}},
		{"a discard that was issued after the answer", ofMany, call{began: 17, ended: 20}, one(6, 0, 4, 0), verdict{Missing: 1}},
		{"the same where zeros were never before", history{{{written, 0, 1, 1, 2, 0}, {discarded, 0, 1, 6, 7, 0}}}, call{3, 5}, one(0), verdict{Missing: 1}},
		{"zeros where nothing was", history{{}}, call{3, 5}, one(0), verdict{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.h.judge(test.c, test.disk)
			why := got.Why
			got.Why = nil
			if got.Torn != test.want.Torn || got.OutOfOrder != test.want.OutOfOrder || got.Missing != test.want.Missing || got.Future != test.want.Future {
				t.Errorf("judged %+v, want %+v: %q", got, test.want, why)
			}
			if (got.wrong() > 0) != (len(why) > 0) {
				t.Errorf("%d findings, told as %q", got.wrong(), why)
			}
		})
	}
}

// A gap inside one writer's writes during the call.
func TestJudgeGap(t *testing.T) {
	h := history{{{block: 0, blocks: 1, issued: 1, acked: 2}, {block: 1, blocks: 1, issued: 4, acked: 5}, {block: 2, blocks: 1, issued: 6, acked: 7}}}
	c := call{began: 3, ended: 8}
	got := h.judge(c, []content{{number: 1}, {}, {number: 3}})
	if got.OutOfOrder != 1 || got.wrong() != 1 {
		t.Errorf("judged %+v, want one block out of order", got)
	}
	// The same where the missing write was to replace an older one.
	h[0][1].block = 0
	got = h.judge(c, []content{{number: 1}, {}, {number: 3}})
	if got.OutOfOrder != 1 || got.wrong() != 1 {
		t.Errorf("judged %+v, want one block out of order", got)
	}
}

// Whatever a disk can hold at a moment of a call is right, and what it holds at none is wrong: all
// contents of small disks under any history, against a look at each moment.
func TestJudgeEverything(t *testing.T) {
	const size = 3
	right, wrong := 0, 0
	for seed := range uint64(400) {
		h, end := anyHistory(rand.New(rand.NewPCG(seed, 0)), size)
		contents := []content{{}}
		for writer, all := range h {
			for i, one := range all {
				if one.kind == written {
					contents = append(contents, content{writer: writer, number: i + 1})
				}
			}
		}
		c := call{began: end / 3, ended: 2 * end / 3}
		disk := make([]content, size)
		n := 1
		for range size {
			n *= len(contents)
		}
		for code := range n {
			for i := range disk {
				disk[i] = contents[code%len(contents)]
				code /= len(contents)
			}
			got := h.judge(c, disk)
			want := h.holdsAtSome(c, disk)
			if (got.wrong() == 0) != want {
				t.Fatalf("seed %d: %v in %+v during %v is judged %+v, and a moment of it: %v", seed, disk, h, c, got, want)
			}
			if want {
				right++
			} else {
				wrong++
			}
		}
	}
	if right < 1000 || wrong < 1000 {
		t.Errorf("%d right and %d wrong: too few to tell", right, wrong)
	}
}

// anyHistory is one of two writers of whose operations no two on a block are under way at once.
func anyHistory(r *rand.Rand, size int) (h history, end uint64) {
	var o order
	h = make(history, 2)
	busy := map[int]int{} // what is under way of a writer: its number
	for len(h[0])+len(h[1]) < 9 {
		w := r.IntN(2)
		if n, ok := busy[w]; ok {
			h[w][n-1].acked = o.next()
			delete(busy, w)
			continue
		}
		one := write{kind: kind(r.IntN(3)), block: r.IntN(size), issued: o.last.Load() + 1}
		one.blocks = 1 + r.IntN(size-one.block)
		if n, ok := busy[1-w]; ok {
			if other := h[1-w][n-1]; one.block < other.block+other.blocks && other.block < one.block+one.blocks {
				continue
			}
		}
		o.next()
		h[w] = append(h[w], one)
		busy[w] = len(h[w])
	}
	return h, o.next()
}

// holdsAtSome looks at every moment of a call.
func (h history) holdsAtSome(c call, disk []content) bool {
	for moment := c.began; moment < c.ended; moment++ {
		possible := make([][]content, len(disk))
		for i := range possible {
			possible[i] = []content{{}}
		}
		for _, one := range h.inOrder() {
			for i := one.block; i < one.block+one.blocks; i++ {
				switch {
				case one.issued > moment:
				case one.acked != 0 && one.acked <= moment:
					possible[i] = []content{one.content}
				default:
					possible[i] = append(possible[i], one.content)
				}
			}
		}
		fits := true
		for i := range disk {
			fits = fits && slices.Contains(possible[i], disk[i])
		}
		if fits {
			return true
		}
	}
	return false
}

func TestBlock(t *testing.T) {
	b := make([]byte, blockSize)
	if got := parse(b, 7, 4); got != (content{}) {
		t.Errorf("zeros are %+v", got)
	}
	stamp(b, 7, 3, 12345)
	if got, want := parse(b, 7, 4), (content{writer: 3, number: 12345}); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if got := parse(b, 8, 4); !got.torn {
		t.Errorf("block 7 in the place of block 8 is %+v", got)
	}
	if got := parse(b, 7, 3); !got.torn {
		t.Errorf("a block of the fourth of three writers is %+v", got)
	}
	next := make([]byte, blockSize)
	stamp(next, 7, 3, 12346)
	for cut := 8; cut < blockSize; cut += 8 {
		if got := parse(slices.Concat(b[:cut], next[cut:]), 7, 4); !got.torn && cut > atNumber {
			t.Fatalf("%d bytes of one write and the rest of the next are %+v", cut, got)
		}
		if got := parse(slices.Concat(b[:cut], make([]byte, blockSize-cut)), 7, 4); !got.torn {
			t.Fatalf("%d bytes of a write and zeros are %+v", cut, got)
		}
	}
}

// The places of writers are blocks of the disk, each once, and no operation leaves its own.
func TestPlaces(t *testing.T) {
	for _, writers := range []int{1, 4, 16, 32} {
		blocks := fragmentedBlocks(4000)
		whose := map[int]int{}
		r := rand.New(rand.NewPCG(1, 1))
		for writer := range writers {
			p := place{writer, writers, blocks / largest, livesApart}
			for n := range p.blocks() {
				block := p.at(n)
				if other, taken := whose[block]; taken || block >= blocks {
					t.Fatalf("block %d of %d is writer %d's and %d's", block, blocks, writer, other)
				}
				whose[block] = writer
			}
			for _, s := range shapes {
				next := s.next(p)
				for range 1000 {
					one := next(r)
					if one.blocks < 1 || one.blocks > largest {
						t.Fatalf("%s: %d blocks", s.name, one.blocks)
					}
					for block := one.block; block < one.block+one.blocks; block++ {
						if w, ok := whose[block]; !ok || w != writer {
							t.Fatalf("%s: writer %d of %d writes to block %d of %d", s.name, writer, writers, block, w)
						}
					}
				}
			}
		}
		if len(whose) < blocks/livesApart*3/4 {
			t.Errorf("%d writers have %d of %d blocks", writers, len(whose), blocks)
		}
	}
}
