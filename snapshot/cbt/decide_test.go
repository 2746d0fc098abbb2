package cbt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/plainsr"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// What a destroyed snapshot need not keep: blocks that no other file has, blocks that the next one has as well, and space
// in which nothing is. What a third one shares stays.
func TestFreeable(t *testing.T) {
	const g = granularity
	stored := func(start, end, place int64, shared bool) segment {
		return segment{start: start, end: end, what: stored, place: place, allocated: true, shared: shared}
	}
	empty := func(start, end int64, allocated bool) segment {
		return segment{start: start, end: end, what: hole, allocated: allocated}
	}
	const newer = 7
	for _, c := range []struct {
		why        string
		own, its   list
		size       int64
		itsSize    int64 // 0: there is no newer one
		runs, void []run
	}{
		{"nothing", list{empty(0, 4*g, false)}, nil, 4 * g, 0, nil, nil},
		{"all its own", list{stored(0, 4*g, 1, false)}, nil, 4 * g, 0, []run{{0, 4, 0}}, nil},
		{"all shared", list{stored(0, 4*g, 1, true)}, nil, 4 * g, 0, nil, nil},
		{"a piece of a block of its own", list{stored(0, 4096, 1, true), stored(4096, 8192, 9, false), stored(8192, 2*g, 1, true)}, nil, 2 * g, 0, []run{{0, 1, 0}}, nil},
		{"space with nothing in it", list{empty(0, g, true), stored(g, 2*g, 1, true)}, nil, 2 * g, 0, nil, []run{{0, g, 0}}},
		{"shared with the newer one", list{stored(0, 4*g, 1, true)}, list{stored(0, 4*g, 1, true)}, 4 * g, 4 * g, []run{{0, 4, newer}}, nil},
		{"shared with others than the newer one", list{stored(0, 4*g, 1, true)}, list{stored(0, 4*g, 2, true)}, 4 * g, 4 * g, nil, nil},
		{"a part shared with the newer one", list{stored(0, 4*g, 1, true)}, list{stored(0, g, 2, true), stored(g, 3*g, 1, true), stored(3*g, 4*g, 2, true)}, 4 * g, 4 * g, []run{{1, 2, newer}}, nil},
		{"a block of which the newer one has a piece", list{stored(0, g, 1, true)}, list{stored(0, 4096, 1, true), stored(4096, g, 2, true)}, g, g, nil, nil},
		{"own beside shared", list{stored(0, g, 5, false), stored(g, 2*g, 1, true)}, list{stored(0, 2*g, 1, true)}, 2 * g, 2 * g, []run{{0, 1, 0}, {1, 1, newer}}, nil},
		{"an end within a block, of two that end there", list{stored(0, g+4096, 1, true)}, list{stored(0, g+4096, 1, true)}, g + 4096, g + 4096, []run{{0, 2, newer}}, nil},
		{"an end within a block, of which the other has more", list{stored(0, g+4096, 1, true)}, list{stored(0, 2*g, 1, true)}, g + 4096, 2 * g, []run{{0, 1, newer}}, nil},
	} {
		own, its := slices.Clone(c.own), slices.Clone(c.its)
		runs, void, err := freeable(&own, &its, c.size, func(b block) (int32, bool) {
			if b.alone {
				return 0, true
			}
			return newer, c.itsSize > 0 && b.keptBy(c.size, c.itsSize)
		})
		if got := slices.Collect(runs.all()); err != nil || !slices.Equal(got, c.runs) {
			t.Errorf("%s: %+v, %v, want %+v", c.why, got, err, c.runs)
		}
		if got := slices.Collect(void.all()); !slices.Equal(got, c.void) {
			t.Errorf("%s: empty %+v, want %+v", c.why, got, c.void)
		}
	}
}

// A bitmap has a bit for every block in which a byte differs, and for one in which only one of the disks ends.
func TestChangedBits(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	const unit = 4096
	for range 1000 {
		sizes := [2]int64{unit * (1 + r.Int64N(20*granularity/unit)), unit * (1 + r.Int64N(20*granularity/unit))}
		old, now := someSegments(r, sizes[0], unit, 0), someSegments(r, sizes[1], unit, 0)
		blocks := (sizes[1]-1)/granularity + 1
		first := r.Int64N(blocks)
		count := 1 + r.Int64N(blocks-first)
		bits, err := changedBits(first, count, sizes[0], sizes[1], func(from, to int64, add func(start, end int64)) error {
			for at := from; at < to; at += unit {
				if !same(where(old, sizes[0], at), where(now, sizes[1], at)) {
					add(at, at+unit)
				}
			}
			return nil
		})
		if err != nil || int64(len(bits)) != (count+31)/32*4 {
			t.Fatal(len(bits), err)
		}
		for n := range int64(len(bits)) * 8 {
			want := false
			for at := (first + n) * granularity; n < count && at < min((first+n+1)*granularity, max(sizes[0], sizes[1])); at += unit {
				want = want || !same(where(old, sizes[0], at), where(now, sizes[1], at))
			}
			if got := bits[n/8]&(0x80>>(n%8)) != 0; got != want {
				t.Fatalf("disks of %d and %d bytes: block %d is changed: %v, not %v", sizes[0], sizes[1], first+n, got, want)
			}
		}
	}
	if _, err := changedBits(0, 1, 1, 1, func(int64, int64, func(int64, int64)) error { return os.ErrClosed }); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestKin(t *testing.T) {
	line := func(text string) (keys []sr.Key) {
		for _, k := range strings.Fields(text) {
			keys = append(keys, sr.Key(k))
		}
		return keys
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"a", "a", true}, {"a", "b", false}, {"a", "b a", true}, {"c x", "d x", true}, {"c x y", "y", true}, {"", "a", false}} {
		if kin(line(c.a), line(c.b)) != c.want || kin(line(c.b), line(c.a)) != c.want {
			t.Errorf("%q and %q: not %v", c.a, c.b, c.want)
		}
	}
}

// plain makes an SR in a plain directory, with these records.
func plain(t *testing.T, records map[int]string) *sr.SR {
	t.Helper()
	was := rundir.Path
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rundir.Path = was })
	for n, text := range records {
		if err := errors.Join(os.WriteFile(filepath.Join(path, string(keyOf(n))+".inf"), []byte(text), 0o600), os.WriteFile(filepath.Join(path, string(keyOf(n))), make([]byte, 4096), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// inf is a record: of what it is a snapshot, which number it has, and whether its data was destroyed.
func inf(of, sequence int, destroyed bool) string {
	origin := "null"
	if of > 0 {
		origin = fmt.Sprintf(`{"kind":"snapshot","of":%q}`, keyOf(of))
	}
	return fmt.Sprintf(`{"format":1,"name":"n","size":4096,"read_write":false,"cbt":true,"sector_size":512,"sequence":%d,"origin":%s,"data_destroyed":%v}`, sequence, origin, destroyed)
}

// Who comes from whom is told by records, as far as there are any, whatever they hold.
func TestLineage(t *testing.T) {
	s := plain(t, map[int]string{
		1: inf(0, 1, false), 2: inf(1, 2, true), 3: inf(2, 3, true), 4: inf(1, 4, false), 5: inf(99, 5, true), 6: inf(7, 6, true), 7: inf(6, 7, false),
		8: strings.Replace(inf(1, 8, false), string(keyOf(1)), "../x", 1), 9: "rubbish", 10: inf(99, 10, false),
	})
	for key, want := range map[int][]int{1: {1}, 3: {3, 2, 1}, 4: {4, 1}, 5: {5, 99}, 6: {6, 7}, 7: {7, 6}, 8: {8}, 9: {9}, 98: {98}} {
		line, err := ancestry(s, keyOf(key))
		if err != nil || !slices.Equal(line, keysOf(want...)) {
			t.Errorf("%d: %q, %v", key, line, err)
		}
	}
	for _, n := range []int{6, 5, 3, 2, 97} {
		name := string(keyOf(n))
		if n == 3 {
			name += sr.PendingCBT
		}
		if err := os.WriteFile(filepath.Join(s.Path, ".reflinksr/cbt", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := DestroyedVolumes(s); err != nil || !slices.Equal(all, keysOf(2, 3, 5, 6, 97)) {
		t.Errorf("%q, %v", all, err)
	}
	for key, want := range map[int][]int{1: {2, 3}, 2: {2, 3}, 4: {2, 3}, 5: {5}, 10: {5}, 7: {6}, 97: {}} {
		family, err := destroyedKin(s, keyOf(key))
		if err != nil || !slices.Equal(family, keysOf(want...)) {
			t.Errorf("family of %d: %q, %v, want %v", key, family, err, want)
		}
	}
	if relatives, err := DestroyedRelatives(s, keyOf(2)); err != nil || !slices.Equal(relatives, keysOf(3)) {
		t.Errorf("%q, %v", relatives, err)
	}
	for key, want := range map[int][]int{1: {4}, 2: {1, 4}, 4: {1}, 5: {10}, 10: {}, 6: {7}, 8: {}} {
		similar, err := SimilarContent(s.Handle(), keyOf(key))
		if err != nil || !slices.Equal(similar, keysOf(want...)) {
			t.Errorf("similar to %d: %q, %v, want %v", key, similar, err, want)
		}
	}
	if _, err := SimilarContent(s.Handle(), keyOf(98)); !errors.Is(err, fault.ErrVolumeNotFound) {
		t.Error(err)
	}
}

func keysOf(numbers ...int) (keys []sr.Key) {
	for _, n := range numbers {
		keys = append(keys, keyOf(n))
	}
	return keys
}

// What is kept of no volume, or of one that has its data, goes; of a destroyed one what is to be done is told.
func TestRecoverFreed(t *testing.T) {
	s := plain(t, map[int]string{1: inf(0, 1, false), 2: inf(1, 2, true), 3: inf(1, 3, true)})
	for n, names := range map[int][]string{1: {sr.PendingCBT}, 2: {sr.PendingCBT}, 3: {""}, 4: {"", sr.PendingCBT}} {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(s.Path, ".reflinksr/cbt", string(keyOf(n))+name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, want := range map[int]bool{1: false, 2: true, 3: false, 4: false} {
		if todo, err := recoverFreed(s, keyOf(n)); err != nil || todo != want {
			t.Errorf("%d: %v, %v", n, todo, err)
		}
	}
	names, err := s.CBT.Names()
	slices.Sort(names)
	if want := []string{string(keyOf(2)) + sr.PendingCBT, string(keyOf(3))}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v, want %q", names, err, want)
	}
}

// What is announced is found by recovery, whoever dies then, and withdrawn it is as before.
func TestAnnounce(t *testing.T) {
	s := plain(t, map[int]string{1: inf(0, 1, true), 2: inf(1, 2, true)})
	for _, n := range []int{1, 2} {
		l := newFreed(keyOf(n))
		l.runs.add(run{int64(n), 1, 0})
		if err := l.save(s); err != nil {
			t.Fatal(err)
		}
		if err := noteGivenBack(s, keyOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	pending := func() (all []bool) {
		for _, n := range []int{1, 2} {
			l, todo, err := loadFreed(s, keyOf(n))
			if err != nil || l.runs.count != 1 {
				t.Fatal(l, err)
			}
			all = append(all, todo)
		}
		return all
	}
	if got := pending(); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("before: %v", got)
	}
	withdraw, err := announce(s, keysOf(1, 2, 9)) // of the last nothing is kept: it is damaged
	if got := pending(); err != nil || !slices.Equal(got, []bool{true, true}) {
		t.Errorf("announced: %v, %v", got, err)
	}
	withdraw()
	if got := pending(); !slices.Equal(got, []bool{false, false}) {
		t.Errorf("withdrawn: %v", got)
	}
	if usage, err := MetadataUsageOf(s, keyOf(1)); err != nil || usage.Freed != granularity || usage.Note == 0 || usage.Pending {
		t.Errorf("%+v, %v", usage, err)
	}
}

// Changed blocks are asked for of disks, not of snapshots, and of what is there.
func TestSetCBT(t *testing.T) {
	s := plain(t, map[int]string{1: inf(0, 1, false), 2: strings.Replace(inf(0, 2, false), `"read_write":false`, `"read_write":true`, 1)})
	if !s.Meta.Filesystem.MapsExtents() {
		if err := EnableCBT(s.Handle(), keyOf(2)); !errors.Is(err, fault.ErrNoExtents) {
			t.Error(err)
		}
		return
	}
	for _, c := range []struct {
		key  int
		do   func(handle string, key sr.Key) error
		want error
		is   bool
	}{
		{2, DisableCBT, nil, false}, {2, DisableCBT, nil, false}, {2, EnableCBT, nil, true}, {2, EnableCBT, nil, true},
		{1, EnableCBT, nil, true}, {1, DisableCBT, fault.ErrInvalid, true}, {9, EnableCBT, fault.ErrVolumeNotFound, false},
	} {
		if err := c.do(s.Handle(), keyOf(c.key)); !errors.Is(err, c.want) {
			t.Errorf("%d: %v", c.key, err)
		}
		if r, err := volume.Load(s, keyOf(c.key)); err == nil && r.CBT != c.is {
			t.Errorf("%d: %v", c.key, r.CBT)
		}
	}
}
