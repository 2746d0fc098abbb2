package main

import (
	_ "embed"
	"flag"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/scripts"
	"reflinksr/scripts/tests"
)

// slowNames are the scenarios that the quick command leaves out, a name a line: those that took
// more than a second and a half on two processors with much else to do, together four fifths of the time.
//
//go:embed testdata/slow
var slowNames string

var slow = strings.Fields(slowNames)

// everywhere are those that the quick command runs on each filesystem.
var everywhere = []string{"main_job"}

// chosen picks what runs on the turn-th filesystem of two. The quick command leaves the slow ones out; in parts each is on one, and on the
// other with the next number, a slow one with the next but one; as a whole all are on both. See tests.Turn and tests.EveryOther.
func chosen(files []string, turn int) []string {
	named := func(names []string) (some, others []string) {
		for _, file := range files {
			if slices.Contains(names, scenario(file)) {
				some = append(some, file)
			} else {
				others = append(others, file)
			}
		}
		return some, others
	}
	late, soon := named(slow)
	if tests.All() {
		return append(tests.EveryOther(late, turn), tests.Turn(soon, turn)...) // what waits longest has begun first
	}
	both, _ := named(everywhere)
	_, others := named(append(everywhere, slow...))
	return append(both, tests.Turn(others, turn)...)
}

func scenario(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

// Of the two filesystems the quick command has each scenario that is not slow on one; in parts each is
// on one, and on the other with the next number; one that is slow is with every other number. All that are named here are there.
func TestChosen(t *testing.T) {
	run := flag.Lookup("test.run").Value
	defer flag.Set("test.run", run.String())
	flag.Set("test.run", "") // by name all of them would be asked for
	files, err := scripts.Config{Own: true}.Select(t.TempDir(), every)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(numbers ...string) map[string]int {
		times := map[string]int{}
		for _, number := range numbers {
			t.Setenv("REFLINKSR_TESTS", number)
			for turn, fs := range []string{"btrfs", "xfs"} {
				for _, file := range chosen(files, turn) {
					times[scenario(file)]++
					times[scenario(file)+" "+fs]++
				}
			}
		}
		return times
	}
	quickly, twice, often, whole := seen(""), seen("6", "7"), seen("6", "7", "8", "9"), seen("all")
	for _, file := range files {
		name := scenario(file)
		want := [4]int{1, 2, 4, 2}
		if slices.Contains(everywhere, name) {
			want[0] = 2
		}
		if slices.Contains(slow, name) {
			want = [4]int{0, 1, 2, 2}
		}
		if got := [4]int{quickly[name], twice[name], often[name], whole[name]}; got != want || often[name+" btrfs"] != want[2]/2 {
			t.Errorf("%s runs so many times by the quick command, with two numbers, with four, and as a whole: %v, want %v", name, got, want)
		}
	}
	for _, name := range append(everywhere, slow...) {
		if !slices.ContainsFunc(files, func(file string) bool { return scenario(file) == name }) {
			t.Errorf("there is no scenario %s", name)
		}
	}
}
