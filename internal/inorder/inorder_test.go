package inorder

import (
	"errors"
	"slices"
	"testing"
)

// Things are done in order, and after one that failed none is; its error is told once at the latest in the end.
func TestLine(t *testing.T) {
	bad := errors.New("bad")
	for fails := range 12 {
		var done, want []int
		l := Begin()
		var told error
		for i := range 10 {
			if told = l.Do(func() error {
				if i == fails {
					return bad
				}
				done = append(done, i)
				return nil
			}); told != nil {
				break
			}
		}
		err := l.End()
		for i := range min(fails, 10) {
			want = append(want, i)
		}
		if !slices.Equal(done, want) {
			t.Errorf("done %v, want %v", done, want)
		}
		if wrong := fails < 10; errors.Is(err, bad) != wrong || told != nil && !errors.Is(told, bad) {
			t.Errorf("%d fails: told %v, in the end %v", fails, told, err)
		}
	}
}

// A buffer is free again when its turn comes.
func TestBuffers(t *testing.T) {
	l := Begin()
	var buffers [Buffers]int
	var got []int
	for i := range 1000 {
		b := &buffers[i%Buffers]
		*b = i
		if err := l.Do(func() error { got = append(got, *b); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.End(); err != nil {
		t.Fatal(err)
	}
	for i, n := range got {
		if i != n {
			t.Fatalf("the %dth had %d", i, n)
		}
	}
}
