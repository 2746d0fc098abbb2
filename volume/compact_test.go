package volume

import (
	"reflect"
	"testing"

	"reflinksr/internal/extent"
)

// Rounds are about as large as they may be, and one extent that is larger has a round of its own; nothing is left out.
func TestRounds(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ used, want []int64 }{
		{nil, nil},
		{[]int64{1}, []int64{1}},
		{[]int64{60 * mib, 4 * mib, 1}, []int64{64 * mib, 1}},
		{[]int64{1, 200 * mib, 1, 2}, []int64{1, 200 * mib, 3}},
		{[]int64{0, 0, 0}, []int64{0}},
	} {
		var extents []extent.Own
		for _, n := range c.used {
			extents = append(extents, extent.Own{Size: 256 * mib, Used: n})
		}
		var have []int64
		for _, some := range rounds(extents) {
			have = append(have, sum(some).Needs)
		}
		if !reflect.DeepEqual(have, c.want) {
			t.Errorf("%v are rewritten as %v, want %v", c.used, have, c.want)
		}
	}
}

func TestJoined(t *testing.T) {
	have := joined([]extent.Piece{{Start: 0, Length: 4096}, {Start: 4096, Length: 8192, Unwritten: true}, {Start: 16384, Length: 4096}})
	if want := []extent.Piece{{Start: 0, Length: 12288}, {Start: 16384, Length: 4096}}; !reflect.DeepEqual(have, want) {
		t.Errorf("%+v, want %+v", have, want)
	}
}

// A piece ends with the disk, or in its last block; what lies behind that stays where it is.
func TestBeyond(t *testing.T) {
	for _, c := range []struct {
		size, start, length int64
		want                bool
	}{
		{8192, 4096, 4096, false},
		{8191, 4096, 4096, false},
		{4097, 4096, 4096, false},
		{4096, 4096, 4096, true},
		{8192, 4096, 8192, true},
	} {
		if have := beyond(extent.Own{Pieces: []extent.Piece{{Start: c.start, Length: c.length}}}, c.size); have != c.want {
			t.Errorf("%+v: %v", c, have)
		}
	}
}
