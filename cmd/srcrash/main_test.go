package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/cmd/srcrash/internal/calls"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// TestMain makes this test binary the plugin, the tracer's wrapper and a worker, as
// the program is.
func TestMain(m *testing.M) {
	trace.Hook()
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	if len(os.Args) > 1 && os.Args[1] == calls.CompactCommand {
		os.Exit(calls.Compact(os.Args[2:], os.Stdout))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	if len(os.Args) > 1 && (os.Args[1] == "worker" || os.Args[1] == "sweep") {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func needRoot(t *testing.T) {
	t.Helper()
	tests.Root(t, "mounting filesystems and attaching loop devices")
	for _, fs := range []string{"btrfs", "xfs"} {
		if err := scratch.Available(fs); err != nil {
			tests.Skip(t, err)
		}
	}
}

// A small part of the sweep: every mode, on both filesystems. In parts it is a third of the situations and another part of the places.
func TestSweep(t *testing.T) {
	needRoot(t)
	var out bytes.Buffer
	err := sweep([]string{"-run", "^(Volume.set_name|Volume.destroy/block_owner|Datapath.detach/active)$", "-every", due(3), "-part", places(25, 120), "-json", filepath.Join(t.TempDir(), "verdicts")}, &out)
	if err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if strings.Contains(out.String(), "\n0 states judged") {
		t.Error(out.String())
	}
}

// compactShare is how much of compact's interruption runs: in parts a quarter, another with every number.
func compactShare() string {
	if k, parts := tests.Part(4); parts > 1 {
		return fmt.Sprintf("%d/%d", k, parts)
	}
	return tests.Share("1/8", "1/1")
}

// A volume that is compacted holds what it held, wherever that stops.
func TestCompactIsInterrupted(t *testing.T) {
	needRoot(t)
	var out bytes.Buffer
	err := sweep([]string{"-run", "^compact$", "-fs", "btrfs", "-modes", "kill,lazy", "-part", compactShare()}, &out)
	if err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// A sweep that is interrupted, wherever it is, leaves no device and no directory.
func TestSweepIsInterrupted(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bound := func() (files []string) {
		notes, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, note := range notes {
			// Worker and directory, as any mount namespace sees them.
			if file, err := os.ReadFile(note); err == nil && strings.Contains(string(file), "/srcrash-") && strings.Contains(string(file), "/worker-") {
				files = append(files, strings.TrimSpace(string(file)))
			}
		}
		return files
	}
	others := bound()
	for i := range 2 {
		c := exec.Command(self, "sweep", "-run", "^(Datapath.attach|SR.destroy/in_use)$", "-j", "2", "-dir", dir)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); !slices.ContainsFunc(bound(), func(file string) bool { return strings.Contains(file, filepath.Base(dir)) }); time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > time.Minute {
				c.Process.Kill()
				c.Wait()
				t.Fatalf("it has not begun: %s", &out)
			}
		}
		time.Sleep(time.Duration(i)*time.Second + time.Second/2)
		if err := c.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := c.Wait(); err == nil {
			t.Errorf("it ended as if nothing had been: %s", &out)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	// What is mounted goes with the last process that sees it, and its devices a moment later.
	var left []string
	for range 200 {
		left = slices.DeleteFunc(bound(), func(file string) bool {
			return slices.Contains(others, file) || !strings.Contains(file, filepath.Base(dir))
		})
		if len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("devices are left: %q", left)
}

// due is the part of the situations that runs.
func due(n int) string {
	k, parts := tests.Part(n)
	return fmt.Sprintf("%d/%d", k, parts)
}

// places is the part of the places at which a call is interrupted: one of so many if the whole runs; in parts another with every number.
func places(whole, inParts int) string {
	if k, parts := tests.Part(inParts); parts > 1 {
		return fmt.Sprintf("%d/%d", k, parts)
	}
	return fmt.Sprintf("1/%d", whole)
}

// What cannot be looked at is no guard's answer: a part of what would find that it is.
func TestLooks(t *testing.T) {
	needRoot(t)
	var out bytes.Buffer
	err := sweep([]string{"-run", "^(SR.destroy|SR.destroy/immutable_data|Volume.resize/throw_away_in_use|Volume.compose)$", "-fs", "xfs", "-modes", "look:EIO", "-every", due(2), "-part", places(8, 60)}, &out)
	if err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

// A file is replaced by another: in the way that every program should, and in one that
// loses it in a power cut.
func TestExplore(t *testing.T) {
	needRoot(t)
	explore := func(modes string, args ...string) (string, error) {
		var out bytes.Buffer
		err := exploreCommand(append([]string{
			"-fs", "xfs", "-modes", modes, "-setup", "echo old > f; sync",
			"-check", `test "$(cat f)" = new || { test $SRCRASH_ENDED != succeeded && test "$(cat f)" = old; }`,
		}, args...), &out)
		return out.String(), err
	}
	for name, c := range map[string]struct {
		program, modes string
		wrong          bool
	}{
		"synced":   {"echo new > g; sync g; mv g f; sync .", "kill,lazy,journal", false},
		"unsynced": {"echo new > g; mv g f; sync .", "journal", true},
		"in place": {"echo new > f; sync f", "kill", true},
	} {
		keep := t.TempDir()
		out, err := explore(c.modes, "-keep", keep, "-sabotage", "echo x > f", "--", "/bin/sh", "-c", c.program)
		if (err == errFound) != c.wrong || err != nil && err != errFound {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		images, err := filepath.Glob(keep + "/*.img")
		if err != nil || (len(images) > 0) != c.wrong {
			t.Errorf("%s: the images %q were kept, %v", name, images, err)
		}
	}
	// What could find nothing is refused.
	for want, args := range map[string][]string{
		"the judge is blind":   {"-sabotage", "true", "--", "/bin/sh", "-c", "echo new > g; mv g f"},
		"it changes nothing":   {"-sabotage", "echo x > f", "--", "/bin/true"},
		"judged wrong":         {"-sabotage", "echo x > f", "--", "/bin/sh", "-c", "echo newer > f"},
		"exit status":          {"-sabotage", "echo x > f", "--", "/bin/sh", "-c", "echo new > f; exit 3"},
		"-sabotage are needed": {"--", "/bin/true"},
	} {
		if out, err := explore("kill", args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q\n%s", args, err, want, out)
		}
	}
}

func TestUsage(t *testing.T) {
	var errs bytes.Buffer
	if status := run(nil, io.Discard, &errs); status != 2 || !strings.Contains(errs.String(), "srcrash sweep") {
		t.Errorf("%d: %s", status, &errs)
	}
}

// The situations of all shares together are those of the whole, each once.
func TestShares(t *testing.T) {
	jobs := func(every string) map[string]int {
		o := sweeping{fs: "btrfs,xfs", modes: "kill", part: "1/1", every: every}
		all, err := o.jobs()
		if err != nil {
			t.Fatal(err)
		}
		times := map[string]int{}
		for _, j := range all {
			times[j.Subject+" "+j.FS]++
		}
		return times
	}
	together := map[string]int{}
	for _, every := range []string{"1/3", "2/3", "3/3"} {
		for name, n := range jobs(every) {
			together[name] += n
		}
	}
	if whole := jobs("1/1"); len(whole) < 100 || !maps.Equal(whole, together) {
		t.Errorf("of %d situations the shares have %v", len(whole), together)
	}
	for _, every := range []string{"0/3", "4/3", "", "x", "1"} {
		if _, err := (&sweeping{fs: "btrfs", part: "1/1", every: every}).jobs(); err == nil {
			t.Errorf("-every %q is none, and was taken", every)
		}
	}
}
