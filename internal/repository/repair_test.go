package repository

import (
	"reflect"
	"testing"
)

// Repaired is what could be, and is there no more, whether it was a problem or a note.
func TestRepaired(t *testing.T) {
	stale := Problem{Kind: "lease", Name: "a", Repairable: true}
	size := Problem{Kind: "size", Name: "b.inf", Repairable: true}
	mode := Problem{Kind: "mode", Name: "b.inf", Repairable: true}
	damage := Problem{Kind: "damage", Name: "c"}
	before := Report{Problems: []Problem{stale, damage, size}, Notes: []Problem{mode}}
	for _, c := range []struct {
		after Report
		want  []Problem
	}{
		{before, nil},
		{Report{}, []Problem{stale, size, mode}},
		{Report{Problems: []Problem{damage}, Notes: []Problem{mode}}, []Problem{stale, size}},
		{Report{Notes: []Problem{stale, size}}, []Problem{mode}}, // it is a note now, and still there
	} {
		if got := repaired(before, c.after); !reflect.DeepEqual(got, c.want) {
			t.Errorf("left is %v: repaired is %v, want %v", c.after, got, c.want)
		}
	}
}
