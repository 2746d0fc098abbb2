package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"reflinksr/scripts/tests"
)

// The commands of the driver for SMAPIv1, interrupted everywhere: what is left is as before or as after, the command succeeds when it is made again (or says
// that it has already), a check finds nothing, and what was not asked for is as it was. The SR is in the working directory of whoever looks.
func TestSMAPIv1Commands(t *testing.T) {
	tests.Root(t, "exploring on filesystems of its own")
	dir := t.TempDir()
	for program, from := range map[string]string{"FileSR": "../reflinksr-smapiv1", "srctl": "../srctl"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, program), from).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	const (
		place = "/proc/self/cwd/sr"
		dconf = "<dconf><location>" + place + "</location></dconf>"
		uuid  = "5d7c7dd4-3d56-4a3f-8f64-64b0b4ec3d0a"
		old   = "7d0b0e6e-9d0a-4c7a-8a43-2b8a8f4d2f11"
		other = "1f2e3d4c-5b6a-4789-8a9b-0c1d2e3f4a5b" // which no command is about
		made  = "0c3f6a52-51f5-4b0f-9d3b-9b6e0c1d2e3f"
	)
	driver := filepath.Join(dir, "FileSR")
	line := func(command string, args string) string {
		return "'" + driver + "' " + command + " '" + dconf + "' " + uuid + " " + args
	}
	scan, there := line("sr_scan", "")+" > scan && ", "grep -q "+made+" scan"
	situations := map[string]struct {
		command []string
		// What the command may answer when it is made again, as a pattern of the shell; and a shell command: what holds then.
		again, after string
	}{
		"vdi_create":   {[]string{"vdi_create", made, "4194304"}, "0|17", scan + there + " && cmp -n 4194304 sr/" + made + " /dev/zero"},
		"vdi_snapshot": {[]string{"vdi_snapshot", old, made}, "0|17", scan + there + " && cmp sr/" + made + " sr/" + old},
		"vdi_clone":    {[]string{"vdi_clone", old, made}, "0|17", scan + there + " && cmp sr/" + made + " sr/" + old},
		"vdi_delete":   {[]string{"vdi_delete", old}, "0", scan + "! grep -q " + old + " scan && ! ls sr/" + old + "*"},
		"vdi_resize":   {[]string{"vdi_resize", old, "8388608"}, "0", scan + "grep -q 8388608 scan && cmp -n 4194304 sr/" + old + " spare"},
		"vdi_lock":     {[]string{"vdi_lock", old, "FALSE", "me"}, "0", "grep -q '\"lock\":\"me\"' sr/.reflinksr/leases/" + old + " && " + scan + "grep -A 1 '<locked>' scan | grep -q True"},
	}
	for _, name := range tests.Due(slices.Sorted(maps.Keys(situations)), 3) {
		x := situations[name]
		t.Run(name, func(t *testing.T) {
			forget := "rm -f /run/reflinksr/sr/" + uuid + ".* /run/reflinksr/volume/" + uuid + ".*; " // of the situation before
			setup := forget + "set -e; mkdir sr; " + line("sr_create", "0") + "; " + line("sr_attach", "") + "; " + line("vdi_create", old+" 4194304") +
				"; " + line("vdi_create", other+" 4194304") +
				"; head -c 4194304 /dev/urandom > spare; cat spare > sr/" + old + "; cat spare > sr/" + other + "; sync"
			modes := "kill,lazy"
			if os.Getenv("REFLINKSR_TESTS") == "all" {
				modes = "kill,term,err,look,lazy,journal,double"
			}
			args := append([]string{"-fs", "btrfs,xfs", "-modes", modes, "-dir", t.TempDir(), "-setup", setup,
				"-recover", line("sr_attach", "") + " || exit 1; " + line(x.command[0], shellWords(x.command[1:])) + "; case $? in " + x.again + ") ;; *) exit 1;; esac",
				"-check", "{ cmp sr/" + other + " spare && " + x.after + "; } || exit 1; exec '" + filepath.Join(dir, "srctl") + "' check " + place,
				"-sabotage", "printf x | dd conv=notrunc of=sr/" + other, driver, x.command[0], dconf, uuid}, x.command[1:]...)
			var out bytes.Buffer
			if err := exploreCommand(args, &out); err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
			t.Log(out.String())
		})
	}
}

func shellWords(words []string) (line string) {
	for _, word := range words {
		line += " '" + word + "'"
	}
	return line
}
