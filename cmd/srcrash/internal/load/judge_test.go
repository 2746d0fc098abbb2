package load

import (
	"slices"
	"testing"
)

// Two writers and six blocks: writer 0 has blocks 0 to 2, writer 1 has 3 to 5. Time
// goes from 1 to 20; the call begins at 9 and ends at 14.
var (
	ofTwo = history{
		{{block: 0, issued: 1, acked: 2}, {block: 1, issued: 5, acked: 6}, {block: 0, issued: 10, acked: 11}, {block: 2, issued: 15, acked: 16}},
		{{block: 3, issued: 3, acked: 4}, {block: 4, issued: 7, acked: 8}, {block: 5, issued: 12, acked: 13}, {block: 3, issued: 17}},
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

func TestJudge(t *testing.T) {
	torn := blocks(3, 2, 0, 1, 2, 3)
	torn[1] = content{torn: true}
	strange := blocks(3, 2, 0, 1, 2, 3)
	strange[2] = content{writer: 0, number: 2}
	for _, test := range []struct {
		name string
		disk []content
		want verdict
	}{
		{"what was acknowledged before the call", blocks(1, 2, 0, 1, 2, 0), verdict{}},
		{"a write during the call", blocks(3, 2, 0, 1, 2, 0), verdict{}},
		{"both writes during the call", blocks(3, 2, 0, 1, 2, 3), verdict{}},
		{"a torn block", torn, verdict{Torn: 1}},
		{"a write where it was not made", strange, verdict{Torn: 1}},
		{"a gap of one writer, acknowledged before the call", blocks(3, 0, 0, 1, 2, 3), verdict{Missing: 1}},
		{"the later of two writers' writes during the call without the earlier", blocks(1, 2, 0, 1, 2, 3), verdict{OutOfOrder: 1}},
		{"the last acknowledged write is missing", blocks(3, 2, 0, 1, 0, 0), verdict{Missing: 1}},
		{"nothing is there", blocks(0, 0, 0, 0, 0, 0), verdict{Missing: 4}},
		{"a write issued after the answer", blocks(3, 2, 4, 1, 2, 3), verdict{Future: 1}},
		{"a write that nobody has issued", blocks(3, 2, 5, 1, 2, 3), verdict{Future: 1, OutOfOrder: 0}},
		{"a write issued after the answer, not acknowledged", blocks(3, 2, 4, 4, 2, 3), verdict{Future: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ofTwo.judge(between, test.disk)
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
	h := history{{{block: 0, issued: 1, acked: 2}, {block: 1, issued: 4, acked: 5}, {block: 2, issued: 6, acked: 7}}}
	c := call{began: 3, ended: 8}
	got := h.judge(c, []content{{number: 1}, {}, {number: 3}})
	if got.OutOfOrder != 1 || got.wrong() != 1 {
		t.Errorf("judged %+v, want one write out of order", got)
	}
	// The same where the missing write was to replace an older one.
	h[0][1].block = 0
	got = h.judge(c, []content{{number: 1}, {}, {number: 3}})
	if got.OutOfOrder != 1 || got.wrong() != 1 {
		t.Errorf("judged %+v, want one write out of order", got)
	}
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
