package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/opennebula"
	"reflinksr/scripts/tests"
)

// allB is the MD5 of what the situations take, a MiB of the letter b.
const allB = "96767d2b46489f3520698a6df536dc4c"

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
		// Shell commands: what holds before a second attempt, and after it, and what makes that wrong. The first are interrupted as well: they are plain.
		either, after, sabotage string
	}{
		"snapshot": {map[string]any{"Do": "snapshot", "From": here + "100/42/disk.1", "Snapshot": 5},
			"! test -e 101/image.snap/5 || cmp 101/image.snap/5 a", "cmp 101/image.snap/5 a && cmp 101/image a && test -L 100/42/disk.1", "rm 101/image"},
		"snapshot, the first": {map[string]any{"Do": "snapshot", "From": here + "100/42/disk.0", "Snapshot": 0},
			"! test -e 100/42/disk.0.snap/0 || cmp 100/42/disk.0.snap/0 b", "cmp 100/42/disk.0.snap/0 b && cmp 100/42/disk.0 b", "rm 100/42/disk.0"},
		"delete snapshot": {map[string]any{"Do": "delete snapshot", "From": here + "100/42/disk.1", "Snapshot": 0},
			"! test -e 101/image.snap/0 || cmp 101/image.snap/0 b", "! test -e 101/image.snap/0 && cmp 101/image a", "cp a 101/image.snap/0"},
		"remove disk": {map[string]any{"Do": "remove disk", "From": here + "100/42/disk.1"},
			"cmp 101/image a && cmp 101/image.snap/0 b", "! test -L 100/42/disk.1 && cmp 101/image a && cmp 101/image.snap/0 b && cmp 100/42/disk.0 b", "rm 101/image"},
		"make": {map[string]any{"Do": "make", "To": here + "101/new", "Format": "qcow2", "Size": 8 << 20},
			"! test -e 101/new || head -c 3 101/new | grep -q QFI", "qemu-img check -q 101/new && qemu-img info 101/new | grep -q 8388608", "rm -r 101"},
		"take": {map[string]any{"Do": "take", "From": here + "b", "To": here + "101/new", "MD5": "$MD5"},
			"! test -e 101/new || cmp 101/new b", "cmp 101/new b", "cp a 101/new"},
		"take, converting": {map[string]any{"Do": "take", "From": here + "b", "To": here + "101/new", "Format": "qcow2"},
			"! test -e 101/new || head -c 3 101/new | grep -q QFI", "qemu-img compare -q -f qcow2 -F raw 101/new b", "cp a 101/new"},
		"restore": {map[string]any{"Do": "restore", "From": here + "100/42", "Restored": []map[string]any{{"Disk": 0, "Format": "raw"}, {"Disk": 1, "Format": "raw", "Source": here + "101/image"}}},
			"{ cmp -s 100/42/disk.0 a || cmp -s 100/42/disk.0 b; } && { cmp -s 101/image a || cmp -s 101/image b; }", "cmp 100/42/disk.0 a && cmp 101/image b && test -L 100/42/disk.1 && ! test -e 101/image.snap/0", "rm 100/42/disk.1"},
		"resize": {map[string]any{"Do": "resize", "From": here + "100/42/disk.0", "Format": "raw", "Size": 4 << 20},
			"head -c 1048576 100/42/disk.0 | cmp - b", "head -c 1048576 100/42/disk.0 | cmp - b && test $(stat -c %s 100/42/disk.0) = 4194304", "cp a 100/42/disk.0"},
		"backup": {map[string]any{"Do": "backup", "From": here + "100/42", "To": here + "100/42/backup", "Data": []byte("xml"), "Disks": []map[string]any{{"Disk": 0, "Format": "raw"}, {"Disk": 1, "Format": "raw"}}},
			"cmp 100/42/disk.0 b && cmp 101/image a && cmp 101/image.snap/0 b",
			"cmp 100/42/disk.0 b && cmp 101/image a && qemu-img compare -q -f qcow2 -F raw 100/42/backup/disk.0.0 b && qemu-img compare -q -f qcow2 -F raw 100/42/backup/disk.1.0 a && cmp 100/42/disk.0.snap/one_backup_0 b", "cp a 100/42/disk.0"},
		"backup of an increment": {map[string]any{"Do": "backup", "From": here + "100/42", "To": here + "100/42/backup", "Data": []byte("xml"), "Disks": []map[string]any{{"Disk": 0, "Format": "raw", "Increment": 1}}},
			"cmp 100/42/disk.0 c && cmp 100/42/disk.0.snap/one_backup_0 b",
			"cmp 100/42/disk.0 c && qemu-img rebase -q -u -f qcow2 -F raw -b ../disk.0.snap/one_backup_0 100/42/backup/disk.0.1 && qemu-img compare -q -f qcow2 -F raw 100/42/backup/disk.0.1 c", "cp a 100/42/disk.0"},
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
			data = bytes.ReplaceAll(data, []byte("$MD5"), []byte(allB))
			stdin := filepath.Join(dir, name)
			if name == "restore" {
				data = append(data, restored(t)...)
			}
			if err := os.WriteFile(stdin, data, 0o600); err != nil {
				t.Fatal(err)
			}
			full := filepath.Join(dir, "full")
			if err := os.WriteFile(full, []byte(`{"Do":"backup","From":"`+here+`100/42","To":"`+here+`100/42/backup","Disks":[{"Disk":0,"Format":"raw"}]}`), 0o600); err != nil {
				t.Fatal(err)
			}
			setup := `set -e; mkdir 100 101 102 100/42 101/image.snap; head -c 1048576 /dev/zero | tr '\0' a > 101/image; head -c 1048576 /dev/zero | tr '\0' b > 101/image.snap/0
				cp 101/image a; cp 101/image.snap/0 b; cp b 100/42/disk.0; ln -s ` + here + `101/image 100/42/disk.1; sync`
			if strings.Contains(name, "increment") { // of a disk that was backed up, and has changed since
				setup += "; '" + program + "' host < '" + full + "'; rm -r 100/42/backup; printf changed | dd of=100/42/disk.0 bs=1 seek=500000 conv=notrunc status=none; cp 100/42/disk.0 c; sync"
			}
			again := "exec '" + program + "' host < '" + stdin + "'"
			switch x.task["Do"] {
			case "snapshot": // what is there is not taken again
				again = "test -e 101/image.snap/5 || test -e 100/42/disk.0.snap/0 || " + again
			case "take":
				again = "test -e 101/new || " + again
			}
			modes := "kill,lazy"
			if os.Getenv("REFLINKSR_TESTS") == "all" {
				modes = "kill,term,err,look,lazy,journal"
				if !strings.HasPrefix(name, "backup") { // of so many calls twice it would take hours, and the second attempt is the same task again
					modes += ",double"
				}
			}
			var out bytes.Buffer
			err = exploreCommand([]string{"-fs", "btrfs,xfs", "-modes", modes, "-dir", t.TempDir(), "-stdin", stdin, "-setup", setup,
				"-recover", "{ " + x.either + "; } || { echo it is neither as before nor as after; exit 1; }; " + again,
				"-check", "{ " + x.after + "; }" + " && ! find . -name '.onereflink-*' | grep .", "-sabotage", x.sabotage, program, "host"}, &out)
			if err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// restored is what comes with the task: a MiB of the letter a, then one of b.
func restored(t *testing.T) []byte {
	t.Helper()
	var wire bytes.Buffer
	p := opennebula.NewParts(&wire)
	for _, letter := range []string{"a", "b"} {
		if err := errors.Join(p.Send(strings.NewReader(strings.Repeat(letter, 1<<20))), p.End()); err != nil {
			t.Fatal(err)
		}
	}
	return wire.Bytes()
}
