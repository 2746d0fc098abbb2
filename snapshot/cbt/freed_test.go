package cbt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"reflinksr/sr"
)

// keyOf answers a key with a number.
func keyOf(n int) sr.Key { return sr.Key(fmt.Sprintf("00000000-0000-4000-8000-%012x", n)) }

// Blocks one by one, each with its owner: what runs are short for.
type blockSet map[int64]sr.Key

func setOf(l *freedBlocks) blockSet { return add(blockSet{}, l.runs, l.owners) }

func add(to blockSet, runs runList, owners []sr.Key) blockSet {
	for r := range runs.all() {
		for b := r.first; b < r.end(); b++ {
			to[b] = owners[r.owner]
		}
	}
	return to
}

// wellFormed says what is wrong with runs: they must be in order and not overlap.
func wellFormed(runs runList, owners int) error {
	end, n := int64(0), 0
	for r := range runs.all() {
		if r.first < end || r.count <= 0 || r.owner < 0 || int(r.owner) >= owners {
			return fmt.Errorf("run %d is %+v, after block %d, of %d owners", n, r, end, owners)
		}
		end = r.end()
		n++
	}
	if n != runs.count {
		return fmt.Errorf("%d runs are said to be %d", n, runs.count)
	}
	return nil
}

// listOf answers a list of runs.
func listOf(runs ...run) (l runList) {
	for _, r := range runs {
		l.add(r)
	}
	return l
}

func slice(l runList) []run { return slices.Collect(l.all()) }

// someRuns answers random runs of low blocks; of so many, seldom, that they are in
// several chunks.
func someRuns(r *rand.Rand, owners int) (l runList) {
	next, n := r.Int64N(4), r.IntN(12)
	if r.IntN(50) == 0 {
		n = r.IntN(1000)
	}
	for range n {
		one := run{next, 1 + r.Int64N(5), int32(r.IntN(owners))}
		l.add(one)
		next = one.end() + r.Int64N(3)
	}
	return l
}

func someFreed(r *rand.Rand) *freedBlocks {
	l := newFreed(keyOf(0))
	for i := range r.IntN(4) {
		l.owner(keyOf(i + 1))
	}
	l.runs = someRuns(r, len(l.owners))
	return l
}

// What is added is there, what is taken out is not, the rest is as it was; and what it
// was made from as well.
func TestFreedBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 5000 {
		l := someFreed(r)
		before := encoded(l)
		_, more := someRuns(r, len(l.owners)).cut(l.runs) // what l has not
		with := l.with(more)
		want := add(setOf(l), more, l.owners)
		if err := wellFormed(with.runs, len(with.owners)); err != nil || !maps.Equal(setOf(with), want) || with.self != l.self {
			t.Fatalf("%v with %v is %v: %v", l, more, with, err)
		}
		k := l.owners[r.IntN(len(l.owners))]
		var of []run
		without := with.without(k)
		maps.DeleteFunc(want, func(_ int64, owner sr.Key) bool { return owner == k })
		if err := wellFormed(without.runs, len(without.owners)); err != nil || !maps.Equal(setOf(without), want) || without.owners[0] != l.self {
			t.Fatalf("%v without %s is %v: %v", with, k, without, err)
		}
		for i, owner := range without.owners[1:] {
			if of := without.of(owner); owner == k || of.count == 0 {
				t.Fatalf("%v without %s names owner %d of nothing: %v", with, k, i+1, without)
			}
		}
		for _, owner := range with.owners {
			of = append(of, slice(with.of(owner))...)
		}
		slices.SortFunc(of, func(a, b run) int { return cmp.Compare(a.first, b.first) })
		if !slices.Equal(of, slice(with.runs)) {
			t.Fatalf("%v is not what its owners have: %v", with, of)
		}
		if !bytes.Equal(encoded(l), before) {
			t.Fatalf("%v was changed", l)
		}
	}
}

// equalFreed says whether two mean the same.
func equalFreed(a, b *freedBlocks) bool {
	return a.self == b.self && slices.Equal(a.owners, b.owners) && slices.Equal(slice(a.runs), slice(b.runs))
}

func TestEqualFreed(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	equal := 0
	for range 5000 {
		a, b := someFreed(r), someFreed(r)
		switch r.IntN(3) {
		case 0:
			b = a.with(runList{})
		case 1:
			b = a.with(listOf(run{1 << 40, 1, 0}))
		}
		want := equalFreed(a, b)
		if a.equal(b) != want || b.equal(a) != want {
			t.Fatalf("%v and %v: %v", a, b, a.equal(b))
		}
		if want {
			equal++
		}
	}
	if equal < 1000 || equal > 4000 {
		t.Errorf("%d of 5000 were equal", equal)
	}
}

func encoded(l *freedBlocks) []byte { return slices.Concat(l.encode()...) }

func TestEncodeFreed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	all := []*freedBlocks{
		newFreed(keyOf(1)),
		{self: keyOf(1), owners: []sr.Key{keyOf(1)}, runs: listOf(run{0, maxBlock, 0})},
		{self: keyOf(1), owners: []sr.Key{keyOf(1), keyOf(2)}, runs: listOf(run{maxBlock - 1, 1, 1})},
	}
	for range 2000 {
		all = append(all, someFreed(r))
	}
	for _, l := range all {
		data := encoded(l)
		if got, err := decodeFreed(data); err != nil || !equalFreed(got, l) {
			t.Fatalf("%v came back as %v, %v", l, got, err)
		}
		// Any other byte anywhere is noticed, and so is a missing end.
		i := r.IntN(len(data))
		bad := bytes.Clone(data)
		bad[i] ^= byte(1 + r.IntN(255))
		if got, err := decodeFreed(bad); err == nil {
			t.Fatalf("%v with byte %d changed is taken for %v", l, i, got)
		}
		if got, err := decodeFreed(data[:i]); err == nil {
			t.Fatalf("the first %d bytes of %v are taken for %v", i, l, got)
		}
	}
}

// freedFile puts a magic before a body and a checksum after it.
func freedFile(body []byte) []byte {
	b := append([]byte(freedMagic), body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// freedBody writes a file of freed blocks from numbers and keys as they come.
func freedBody(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(p))
		case sr.Key:
			b = append(b, p...)
		}
	}
	return b
}

func TestDecodeFreedRefuses(t *testing.T) {
	k := keyOf(1)
	for _, c := range []struct {
		what string
		body []byte
		says string
	}{
		{"no owner", freedBody(0, 0), "names no volume"},
		{"a key that is none", append(freedBody(1), []byte(strings.Repeat("/", 36)+"\x00")...), "no such volume"},
		{"more owners than there are", freedBody(2, k), "too short"},
		{"a million owners", freedBody(1<<20, k), "is more than"},
		{"no runs where one is said to be", freedBody(1, k, 1), "too short"},
		{"a run of nothing", freedBody(1, k, 1, 0, 0, 0), "not possible"},
		{"a run behind the last block", freedBody(1, k, 1, maxBlock, 1, 0), "not possible"},
		{"a run that ends too late", freedBody(1, k, 1, 1, maxBlock, 0), "not possible"},
		{"a gap beyond all bounds", freedBody(1, k, 1, 1<<62, 1, 0), "is more than"},
		{"an unknown owner", freedBody(1, k, 1, 0, 1, 1), "is more than"},
		{"something after the end", freedBody(1, k, 0, 0), "left over"},
		{"a number without end", append(freedBody(1, k), bytes.Repeat([]byte{0xff}, 20)...), "too short"},
	} {
		if l, err := decodeFreed(freedFile(c.body)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; it must say %q", c.what, l, err, c.says)
		}
	}
	for _, data := range [][]byte{nil, []byte(freedMagic), []byte("reflinksr freed blocks 2\n1234567")} {
		if l, err := decodeFreed(data); err == nil {
			t.Errorf("%q is taken for %v", data, l)
		}
	}
}

// Whatever the file holds: no panic, no more memory than it is worth, and what is
// accepted is written as something that means the same. The fuzzer sets the body; the
// checksum would keep it out of everything.
func FuzzDecodeFreed(f *testing.F) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 8 {
		data := encoded(someFreed(r))
		f.Add(data[len(freedMagic):len(data)-4], true)
		f.Add(data, false)
	}
	f.Add(freedBody(1<<16, keyOf(1)), true)
	f.Add(freedBody(1, keyOf(1), maxBlock, 0, 1, 0), true)
	f.Add([]byte(freedMagic), false)
	f.Fuzz(func(t *testing.T, data []byte, body bool) {
		if body {
			data = freedFile(data)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := decodeFreed(data)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(data)+64<<10) {
			t.Errorf("%d bytes of file took %d bytes of memory", len(data), used)
		}
		if err != nil {
			if len(err.Error()) > 500 {
				t.Errorf("%.600s", err)
			}
			return
		}
		if err := wellFormed(l.runs, len(l.owners)); err != nil {
			t.Error(err)
		}
		if l.runs.last.end() > maxBlock || l.owners[0] != l.self {
			t.Errorf("%v", l)
		}
		if again, err := decodeFreed(encoded(l)); err != nil || !equalFreed(l, again) {
			t.Errorf("%v became %v, %v", l, again, err)
		}
	})
}

// list is a cursor over segments that are there already.
type list []segment

func (l *list) next() (segment, error) {
	if len(*l) == 0 {
		return segment{end: endless, what: beyond}, nil
	}
	g := (*l)[0]
	*l = (*l)[1:]
	return g, nil
}

// someSegments cuts size bytes into segments, each stored at a place of its own number.
func someSegments(r *rand.Rand, size, unit int64, number int64) (l list) {
	for at := int64(0); at < size; {
		end := min(size, at+unit*(1+r.Int64N(20)))
		number++
		l = append(l, segment{start: at, end: end, what: kind(r.IntN(2)), place: number})
		at = end
	}
	return l
}

// where answers the segment of a list that holds a byte.
func where(l list, size, at int64) segment {
	if at >= size {
		return segment{what: beyond}
	}
	i := slices.IndexFunc(l, func(g segment) bool { return g.end > at })
	return l[i]
}

// A disk some of whose blocks others keep reads as the owner where there is one, as
// freed where there is none, and as its file everywhere else.
func TestFreedCursor(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	const unit = 4096
	for range 1000 {
		l := someFreed(r)
		size := unit * (1 + r.Int64N(60*granularity/unit))
		files := []list{someSegments(r, size, unit, 0)}
		sizes := []int64{size}
		var walkers []*walker
		for i := range l.owners {
			if i == 0 {
				walkers = append(walkers, nil)
				continue
			}
			n := unit * (1 + r.Int64N(60*granularity/unit))
			files, sizes = append(files, someSegments(r, n, unit, int64(1000*i))), append(sizes, n)
			c := slices.Clone(files[i])
			walkers = append(walkers, &walker{cursor: &c})
		}
		if r.IntN(4) == 0 {
			walkers = nil
		}
		own := slices.Clone(files[0])
		c := &freedCursor{own: walker{cursor: &own}, size: size, names: l.owners, runs: l.runs.walk(), owners: walkers}
		w := walker{cursor: c}
		freed := setOf(l)
		for at := int64(0); at < size+unit; {
			g, err := w.at(at)
			if err != nil || g.end <= at {
				t.Fatal(g, err)
			}
			if at < size && g.end > size {
				t.Fatalf("a segment of a disk of %d bytes ends at %d", size, g.end)
			}
			for ; at < min(g.end, size+unit); at += unit {
				var want segment
				owner, isLost := freed[at/granularity]
				switch {
				case at >= size:
					want = segment{what: beyond}
				case !isLost:
					want = where(files[0], size, at)
				case walkers == nil:
				case owner == l.self:
					want = segment{what: kind(3), owner: l.self}
				default:
					i := slices.Index(l.owners, owner)
					want = where(files[i], sizes[i], at)
				}
				if g.what != want.what || g.owner != want.owner || g.what == stored && g.place != want.place {
					t.Fatalf("at %d of %d: %+v, not %+v; freed: %v", at, size, g, want, l)
				}
			}
		}
	}
}
