package precopy

import (
	"bytes"
	"testing"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// A clone begins as all of an earlier state, in however many pieces that was cloned.
func TestBegin(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	for _, kind := range []string{"btrfs", "xfs"} {
		if err := scratch.Available(kind); err != nil {
			tests.Skip(t, err)
		}
		d, _ := inUse(t, kind)
		want := contents(t, d.File)
		for _, extents := range []int{1, 100, testBlocks / 2, testBlocks} {
			f := target(t, d)
			if err := begin(f, d.File, extents); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(contents(t, f), want) {
				t.Errorf("%s: begun by %d extents, the clone is another", kind, extents)
			}
		}
	}
}
