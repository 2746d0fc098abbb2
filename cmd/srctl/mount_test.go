package main

import (
	"slices"
	"strings"
	"testing"
)

// A partition that is not on the disk, or that nobody understands, is none.
func TestPartitions(t *testing.T) {
	const size = 1 << 30
	got := parsePartitions("1 2048 4096\n2 6144 2091008\n3 6144 2091009\n4 0 5\n5 9223372036854775807 1\n6 1 9223372036854775807\n7 -1 5\n0 1 1\nx 1 1\n8 99999999999999999999 1\n9 1\n", size)
	want := []part{{Number: 1, Start: 1 << 20, Size: 2 << 20}, {Number: 2, Start: 3 << 20, Size: 1021 << 20}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := parsePartitions(strings.Repeat("1 2 3\n", 1000), size); len(got) != mostParts {
		t.Errorf("%d partitions", len(got))
	}
}
