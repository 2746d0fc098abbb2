package volume

import (
	"math"
	"testing"

	"reflinksr/sr"
)

// What guests may still write is what their disks lack; of one that shares blocks, all of it.
func TestMayWrite(t *testing.T) {
	const a, b, c = sr.Key("a"), sr.Key("b"), sr.Key("c")
	for what, tt := range map[string]struct {
		all  []demand
		want int64
	}{
		"nothing":              {nil, 0},
		"what cannot be read":  {[]demand{{}}, 0},
		"a disk":               {[]demand{{key: a, rw: true, virtual: 10, allocated: 4}}, 6},
		"more than its size":   {[]demand{{key: a, rw: true, virtual: 10, allocated: 14}}, 0},
		"a read-only one":      {[]demand{{key: a, virtual: 10}}, 0},
		"two":                  {[]demand{{key: a, rw: true, virtual: 10, allocated: 4}, {key: b, rw: true, virtual: 5}}, 11},
		"one with a snapshot":  {[]demand{{key: a, rw: true, virtual: 10, allocated: 4}, {key: b, of: a, virtual: 10, allocated: 4}}, 10},
		"a clone of what went": {[]demand{{key: a, of: c, rw: true, virtual: 10, allocated: 4}}, 10},
		"too much":             {[]demand{{key: a, rw: true, virtual: math.MaxInt64}, {key: b, rw: true, virtual: 1}}, math.MaxInt64},
	} {
		if got := mayWrite(tt.all); got != tt.want {
			t.Errorf("%s: %d, want %d", what, got, tt.want)
		}
	}
}
