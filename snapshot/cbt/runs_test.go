package cbt

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"reflinksr/sr"
)

func TestRunListAdd(t *testing.T) {
	l := listOf(run{0, 2, 0}, run{2, 1, 0}, run{3, 1, 1}, run{5, 2, 1}, run{7, 1, 1}, run{8, 1, 0})
	if want := []run{{0, 3, 0}, {3, 1, 1}, {5, 3, 1}, {8, 1, 0}}; !slices.Equal(slice(l), want) || l.count != len(want) {
		t.Errorf("%v, not %v", slice(l), want)
	}
	if got := slice(runList{}); got != nil {
		t.Errorf("nothing is %v", got)
	}
}

// What is added to a list or to its clone is not in the other, wherever in a chunk they
// part.
func TestRunListClone(t *testing.T) {
	var l runList
	var want []run
	add := func(i int64) {
		r := run{3 * i, 1 + i%2, 0}
		l.add(r)
		want = append(want, r)
	}
	for i := int64(0); i < 3000; i += 3 {
		add(i)
		c, others := l.clone(), slices.Clone(want)
		for _, r := range []run{{1 << 40, 1, 9}, {1 << 41, 7, 9}, {1 << 42, 1, 9}} {
			c.add(r)
			others = append(others, r)
		}
		add(i + 1)
		add(i + 2)
		if got := slice(c); !slices.Equal(got, others) {
			t.Fatalf("the clone of %d runs and three more: %v", len(others)-3, got)
		}
	}
	if !slices.Equal(slice(l), want) {
		t.Error("the list is not what was added")
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct{ runs, by, in, out []run }{
		{nil, []run{{0, 9, 0}}, nil, nil},
		{[]run{{2, 4, 3}}, nil, nil, []run{{2, 4, 3}}},
		{[]run{{2, 4, 3}}, []run{{0, 2, 0}, {6, 1, 0}}, nil, []run{{2, 4, 3}}},
		{[]run{{2, 4, 3}}, []run{{0, 9, 1}}, []run{{2, 4, 3}}, nil},
		{[]run{{2, 4, 3}}, []run{{3, 1, 0}}, []run{{3, 1, 3}}, []run{{2, 1, 3}, {4, 2, 3}}},
		{[]run{{0, 4, 1}, {4, 4, 2}}, []run{{3, 2, 0}}, []run{{3, 1, 1}, {4, 1, 2}}, []run{{0, 3, 1}, {5, 3, 2}}},
		{[]run{{maxBlock - 1, 1, 0}}, []run{{0, maxBlock, 0}}, []run{{maxBlock - 1, 1, 0}}, nil},
	} {
		if in, out := listOf(c.runs...).cut(listOf(c.by...)); !slices.Equal(slice(in), c.in) || !slices.Equal(slice(out), c.out) {
			t.Errorf("%v cut by %v is %v and %v, not %v and %v", c.runs, c.by, slice(in), slice(out), c.in, c.out)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	owners := []sr.Key{keyOf(0), keyOf(1), keyOf(2)}
	for range 5000 {
		runs, by := someRuns(r, 3), someRuns(r, 1)
		in, out := runs.cut(by)
		all, cover, inside, outside := add(blockSet{}, runs, owners), add(blockSet{}, by, owners), blockSet{}, blockSet{}
		for b, k := range all {
			if _, ok := cover[b]; ok {
				inside[b] = k
			} else {
				outside[b] = k
			}
		}
		if !maps.Equal(add(blockSet{}, in, owners), inside) || !maps.Equal(add(blockSet{}, out, owners), outside) ||
			wellFormed(in, 3) != nil || wellFormed(out, 3) != nil {
			t.Fatalf("%v cut by %v is %v and %v", slice(runs), slice(by), slice(in), slice(out))
		}
	}
}

func TestAsKept(t *testing.T) {
	runs := listOf(run{0, 1, 3}, run{4, 2, 0}, run{6, 1, 1})
	if kept := runs.ownedBy(7); !slices.Equal(slice(kept), []run{{0, 1, 7}, {4, 3, 7}}) || runs.walk().now.owner != 3 {
		t.Errorf("%v became %v", slice(runs), slice(kept))
	}
}

// Ten million runs, none of which touch, in less than 64 MiB, to be walked over and to be
// written.
func TestRunListIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var l freedBlocks
	for i := range int64(10_000_000) {
		l.runs.add(run{3 * i, 1, int32(i % 2)})
	}
	n := 0
	for range l.runs.all() {
		n++
	}
	pieces := l.encode()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 || n != 10_000_000 {
		t.Errorf("%d runs took %d bytes", n, used)
	}
	runtime.KeepAlive(pieces)
}
