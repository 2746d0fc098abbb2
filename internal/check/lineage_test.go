package check

import (
	"maps"
	"strconv"
	"testing"

	"reflinksr/sr"
	"reflinksr/volume"
)

// Origins that lead back are found, in time that does not grow with their length.
func TestCircles(t *testing.T) {
	records := map[sr.Key]*finding{}
	come := func(key, of sr.Key) {
		records[key] = &finding{record: &volume.Record{Origin: &volume.Origin{Kind: volume.Clone, Of: of}}}
	}
	come("self", "self")
	come("a", "b")
	come("b", "c")
	come("c", "b")
	come("d", "a")
	come("x", "y")
	come("y", "gone")
	records["first"] = &finding{record: &volume.Record{}}
	come("second", "first")
	for i := range 100_000 {
		come(sr.Key(strconv.Itoa(i+1)), sr.Key(strconv.Itoa(i)))
	}
	in := circles(records)
	if want := map[sr.Key]bool{"self": true, "b": true, "c": true}; !maps.Equal(in, want) {
		t.Errorf("%v, want %v", in, want)
	}
}
