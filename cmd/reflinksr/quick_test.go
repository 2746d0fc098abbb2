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

// slowNames are the scenarios that the quick command leaves to make long, a name a line: those that took
// more than a second and a half on two processors with much else to do, together four fifths of the time.
//
//go:embed testdata/slow
var slowNames string

var slow = strings.Fields(slowNames)

// everywhere are those that the quick command runs on each filesystem.
var everywhere = []string{"main_job"}

// quick picks what the quick command runs on the turn-th filesystem of two; see tests.Turn.
func quick(files []string, turn int) []string {
	if tests.All() {
		return files
	}
	named := func(names []string) func(file string) bool {
		return func(file string) bool { return slices.Contains(names, scenario(file)) }
	}
	both := slices.DeleteFunc(slices.Clone(files), func(file string) bool { return !named(everywhere)(file) })
	files = slices.DeleteFunc(slices.Clone(files), named(append(everywhere, slow...)))
	return append(both, tests.Turn(files, turn)...)
}

func scenario(file string) string { return strings.TrimSuffix(filepath.Base(file), ".txtar") }

// Of the two shares of the quick command one has each scenario that is not slow, and all that
// are named here are there.
func TestQuick(t *testing.T) {
	run := flag.Lookup("test.run").Value
	defer flag.Set("test.run", run.String())
	flag.Set("test.run", "") // by name all of them would be asked for
	t.Setenv("REFLINKSR_TESTS", "")
	files, err := scripts.Config{Own: true}.Select(t.TempDir(), every)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for turn := range 2 {
		for _, file := range quick(files, turn) {
			times[scenario(file)]++
		}
	}
	for _, file := range files {
		name, want := scenario(file), 1
		if slices.Contains(slow, name) {
			want = 0
		}
		if slices.Contains(everywhere, name) {
			want = 2
		}
		if times[name] != want {
			t.Errorf("%s runs on %d filesystems, want %d", name, times[name], want)
		}
		delete(times, name)
	}
	for _, name := range append(everywhere, slow...) {
		if !slices.ContainsFunc(files, func(file string) bool { return scenario(file) == name }) {
			t.Errorf("there is no scenario %s", name)
		}
	}
}
