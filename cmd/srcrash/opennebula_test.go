package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"reflinksr/scripts/tests"
)

// The tasks of OpenNebula's drivers, interrupted everywhere: what is left is as before or as after, the task ends what was begun when it is made again, and nothing
// staged stays. Paths are below the working directory of whoever looks, where the filesystem is.
func TestOpenNebulaTasks(t *testing.T) {
	tests.Root(t, "exploring on filesystems of its own")
	dir := t.TempDir()
	program := filepath.Join(dir, "onereflink")
	if out, err := exec.Command("go", "build", "-o", program, "../onereflink").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const here = "/proc/self/cwd/"
	situations := map[string]struct {
		task map[string]any
		// Shell commands: what holds before a second attempt, and after it, and what makes that wrong.
		either, after, sabotage string
	}{
		"clone": {map[string]any{"Do": "clone", "From": here + "101/image", "Snapshot": -1, "To": here + "100/42/disk.0"},
			"cmp -s 100/42/disk.0 a || cmp -s 100/42/disk.0 b", "cmp 100/42/disk.0 a", "rm 101/image"},
		"revert": {map[string]any{"Do": "revert", "From": here + "100/42/disk.1", "Snapshot": 0},
			"cmp -s 101/image a || cmp -s 101/image b", "cmp 101/image b && test -L 100/42/disk.1", "cp b 100/42/disk.1.new; mv 100/42/disk.1.new 100/42/disk.1"},
		"link": {map[string]any{"Do": "link", "From": here + "101/image", "To": here + "100/42/disk.0"},
			"test -f 100/42/disk.0", "test -L 100/42/disk.0 && cmp 100/42/disk.0 a", "rm 100/42/disk.0"},
		"flatten": {map[string]any{"Do": "flatten", "From": here + "101/image", "Snapshot": 0},
			"cmp -s 101/image a || cmp -s 101/image b", "cmp 101/image b && ! test -e 101/image.snap", "rm 101/image"},
		"move": {map[string]any{"Do": "move", "From": here + "100/42", "To": here + "102/42"},
			"cmp -s 100/42/disk.0 b || cmp -s 102/42/disk.0 b", "cmp 102/42/disk.0 b && test -L 102/42/disk.1 && ! test -e 100/42", "rm 102/42/disk.0"},
		"remove": {map[string]any{"Do": "remove", "From": here + "101/image"},
			"true", "! test -e 101/image && ! test -e 101/image.snap", "mkdir 101/image"},
		"remove guest": {map[string]any{"Do": "remove guest", "From": here + "100/42"},
			"cmp 101/image a", "! test -e 100/42 && cmp 101/image a", "rm 101/image"},
	}
	for _, name := range tests.Due(slices.Sorted(maps.Keys(situations)), 4) {
		x := situations[name]
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(x.task)
			if err != nil {
				t.Fatal(err)
			}
			stdin := filepath.Join(dir, name)
			if err := os.WriteFile(stdin, data, 0o600); err != nil {
				t.Fatal(err)
			}
			setup := `set -e; mkdir 100 101 102 100/42 101/image.snap; head -c 1000000 /dev/zero | tr '\0' a > 101/image; head -c 1000000 /dev/zero | tr '\0' b > 101/image.snap/0
				cp 101/image a; cp 101/image.snap/0 b; cp b 100/42/disk.0; ln -s ` + here + `101/image 100/42/disk.1; sync`
			modes := "kill,lazy"
			if os.Getenv("REFLINKSR_TESTS") == "all" {
				modes = "kill,term,err,look,lazy,journal,double"
			}
			var out bytes.Buffer
			err = exploreCommand([]string{"-fs", "btrfs,xfs", "-modes", modes, "-dir", t.TempDir(), "-stdin", stdin, "-setup", setup,
				"-recover", "{ " + x.either + "; } || { echo it is neither as before nor as after; exit 1; }; exec '" + program + "' host < '" + stdin + "'",
				"-check", x.after + " && ! find . -name '.onereflink-*' | grep .", "-sabotage", x.sabotage, program, "host"}, &out)
			if err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}
