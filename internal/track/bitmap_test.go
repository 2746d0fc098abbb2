package track

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// A bitmap is the set that a map would be.
func TestBitmap(t *testing.T) {
	const blocks = 5*chunkBlocks + 77
	random := rand.New(rand.NewPCG(1, 2))
	b, want := NewBitmap(blocks), map[int64]bool{}
	check := func() {
		t.Helper()
		var runs []Run
		for i := int64(0); i < blocks; i++ {
			if !want[i] {
				continue
			}
			if n := len(runs); n > 0 && runs[n-1].To == i {
				runs[n-1].To++
			} else {
				runs = append(runs, Run{i, i + 1})
			}
		}
		if got := b.Runs(); !reflect.DeepEqual(got, runs) || b.Len() != int64(len(want)) {
			t.Fatalf("%d blocks in %d runs, want %d in %d", b.Len(), len(got), len(want), len(runs))
		}
	}
	for step := range 400 {
		from := random.Int64N(blocks+200) - 100
		to := from + random.Int64N([]int64{3, 70, 5000, blocks}[random.IntN(4)])
		set := random.IntN(2) == 0
		any := false
		for i := max(0, from); i < min(to, blocks); i++ {
			any = any || want[i]
			if set {
				want[i] = true
			} else {
				delete(want, i)
			}
		}
		if got := b.Any(from, to); got != any {
			t.Fatalf("step %d: any of [%d, %d): %v", step, from, to, got)
		}
		if set {
			b.Set(from, to)
		} else {
			b.Clear(from, to)
		}
		if step%10 == 0 {
			check()
		}
	}
	check()
	o := NewBitmap(blocks)
	o.Set(5, 9)
	o.Set(blocks-1, blocks)
	for i := int64(5); i < 9; i++ {
		want[i] = true
	}
	want[blocks-1] = true
	b.Add(o)
	check()
	clear(want)
	b.Reset()
	check()
}
