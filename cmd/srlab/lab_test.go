package main

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"reflinksr/scripts"
	"reflinksr/scripts/tests"
)

// TestScenariosAreWellFormed looks for what a run would only find after minutes.
func TestScenariosAreWellFormed(t *testing.T) {
	known := verbs()
	onMachines := scripts.Verbs()
	for _, kind := range kinds {
		files, err := fs.Glob(scenarios, kind+"/*.txtar")
		if err != nil || len(files) == 0 {
			t.Fatalf("there is no scenario of %s: %v", kind, err)
		}
		for _, file := range files {
			data, err := scenarios.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(string(data), "\n") {
				words := strings.Fields(strings.TrimPrefix(line, "! "))
				if len(words) == 0 || words[0] == "#" || slices.Contains([]string{"stdout", "cp", "cmp"}, words[0]) {
					continue
				}
				if known[words[0]] == nil {
					t.Errorf("%s:%d: there is no verb %s", file, i+1, words[0])
				}
				if words[0] == "on" && (len(words) < 3 || !has(onMachines, words[2])) {
					t.Errorf("%s:%d: no machine can carry out %q", file, i+1, words[2:])
				}
			}
		}
	}
}

func has(verbs []string, verb string) bool {
	for _, v := range append(verbs, "exec", "env") {
		if v == verb || verb == "!" {
			return true
		}
	}
	return false
}

func TestProgramsForMachinesAreStatic(t *testing.T) {
	if err := static("/nonexistent"); err == nil {
		t.Error("a program that is not there is static")
	}
	for _, path := range []string{"/bin/sh", "/usr/bin/env"} {
		if _, err := os.Stat(path); err != nil {
			tests.Skip(t, err)
		}
		if err := static(path); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
