package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts"
	"reflinksr/scripts/recording"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// TestMain makes this test binary srtest as well, for tests that need its process.
func TestMain(m *testing.M) {
	if status, ok := recording.AsWrapper(); ok {
		os.Exit(status)
	}
	sandbox.Hook()
	if os.Args[0] == "srtest" {
		main()
	}
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"run", "-x"}, {"list", "more"}, {"new"}, {"new", "a", "b"}, {"list", "-run", "("}, {"run", "-j", "0"}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 2 || errs.Len() == 0 || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

func TestList(t *testing.T) {
	var all, own, errs bytes.Buffer
	if run([]string{"list"}, &all, &errs) != 0 || run([]string{"list", "-own"}, &own, &errs) != 0 {
		t.Fatal(errs.String())
	}
	if !strings.Contains(all.String(), "volume/main_job\n") || strings.Contains(all.String(), "own_") || !strings.Contains(own.String(), "own_") {
		t.Errorf("%s\n%s", all.String(), own.String())
	}
	all.Reset()
	if run([]string{"list", "-run", "^sr/"}, &all, &errs) != 0 || !strings.HasPrefix(all.String(), "sr/") || strings.Contains(all.String(), "volume/") {
		t.Errorf("%s%s", all.String(), errs.String())
	}
}

func TestHelp(t *testing.T) {
	var out, errs bytes.Buffer
	if run([]string{"help", "plug"}, &out, &errs) != 0 || !strings.Contains(out.String(), "plug VOLUME") {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	if run([]string{"help", "plugg"}, &out, &errs) != 1 || !strings.Contains(errs.String(), `no verb "plugg"`) {
		t.Errorf("%s", errs.String())
	}
}

// A tester's first scenario is written once, found by file and by directory, and
// begins with a comment.
func TestNew(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "mine")
	var out, errs bytes.Buffer
	if run([]string{"new", name}, &out, &errs) != 0 {
		t.Fatal(errs.String())
	}
	if run([]string{"new", name}, &out, &errs) != 1 || !strings.Contains(errs.String(), "exists") {
		t.Errorf("a second one: %s", errs.String())
	}
	all := regexp.MustCompile("")
	for _, path := range []string{dir, name + ".txtar"} {
		files, err := find(scripts.Config{}, dir, all, []string{path})
		if err != nil || len(files) != 1 || files[0] != name+".txtar" {
			t.Errorf("%s: %v, %v", path, files, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "folder", "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	if run([]string{"new", filepath.Join(dir, "folder", "inner", "other")}, &out, &errs) != 0 {
		t.Fatal(errs.String())
	}
	for pattern, want := range map[string]int{"": 2, "other": 1, "inner/": 1, "inner": 0, "^mine$": 1} {
		if files, _ := find(scripts.Config{}, dir, regexp.MustCompile(pattern), []string{dir}); len(files) != want {
			t.Errorf("%q: %q, want %d", pattern, files, want)
		}
	}
	if files, err := find(scripts.Config{}, dir, regexp.MustCompile("yours"), []string{dir}); err == nil {
		t.Errorf("%v", files)
	}
	if _, err := find(scripts.Config{}, dir, all, []string{name + ".none"}); err == nil {
		t.Error("a scenario that is not there was found")
	}
}

// Mistakes are told with where they are, as text and as JSON, by anybody.
func TestVet(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if run([]string{"new", dir + "/good"}, &out, &errs) != 0 || run([]string{"vet", dir}, &out, &errs) != 0 {
		t.Fatal(errs.String())
	}
	bad := filepath.Join(dir, "bad.txtar")
	if err := os.WriteFile(bad, []byte("sr\n\nsum $DISK\ncal SR.ls\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if run([]string{"vet", dir}, &out, &errs) != 1 || out.String() != bad+":3: nothing has set $DISK\n"+bad+":4: there is no verb \"cal\": is it call?\n" {
		t.Errorf("%s%s", out.String(), errs.String())
	}
	out.Reset()
	var m scripts.Mistake
	if run([]string{"vet", "-json", bad}, &out, &errs) != 1 || json.NewDecoder(&out).Decode(&m) != nil || m.Line != 3 || !strings.Contains(errs.String(), "2 mistakes in 1 scenarios") {
		t.Errorf("%+v, %s", m, errs.String())
	}
}

// What is asked for and cannot be is said in one sentence.
func TestRefusals(t *testing.T) {
	tests.Root(t, "srtest run")
	empty := t.TempDir()
	conf := filepath.Join(empty, "conf")
	if err := os.Mkdir(filepath.Join(empty, "none"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
		file string
	}{
		"no directory":      {[]string{"run", "-volume", "/nowhere"}, "no plugin there: stat /nowhere", ""},
		"no plugin":         {[]string{"run", "-volume", empty, "-datapath", empty}, "there is no Plugin.Query in it", ""},
		"no filesystem":     {[]string{"run", "-volume", plugged(t), "-fs", "zfs"}, `no filesystem of kind "zfs"`, ""},
		"no such scenario":  {[]string{"run", "-volume", plugged(t), "-run", "^none$"}, "no scenario matches", ""},
		"nothing to do":     {[]string{"run", "-volume", plugged(t), conf}, "has no line to carry out", "# Only a comment.\n\n-- file --\ntext\n"},
		"no scenarios":      {[]string{"run", "-volume", plugged(t), empty + "/none"}, "there is no *.txtar in", ""},
		"no command":        {[]string{"rum"}, `there is no command "rum"`, ""},
		"two plugins":       {[]string{"run", "-volume", "a", "-volume", "b"}, "srtest report compares several", ""},
		"a flag of another": {[]string{"list", "-html", "x"}, "there is no -html for it", ""},
		"no time":           {[]string{"run", "-timeout", "soon"}, "soon", ""},
		"a list":            {[]string{"run", "-config", conf}, "want a JSON object of strings", "[]"},
		"odd variable":      {[]string{"run", "-config", conf}, "there is no $HOME", `{"path":"$HOME"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(conf, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			status := run(c.args, &out, &errs)
			if status == 0 || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 || out.Len() > 0 {
				t.Errorf("exit %d\n%s%s", status, out.String(), errs.String())
			}
		})
	}
}

// When nobody reads the output any more, running scenarios end and are cleaned up.
func TestOutputClosed(t *testing.T) {
	tests.Root(t, "srtest run")
	dir, tmp := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a_quick": "exec true\n", "waits": "fs tmpfs 64MiB\nexec sleep 600\n"} {
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	c := exec.Command(self, "run", "-j", "2", "-volume", plugged(t), "-fs", "tmpfs", dir)
	c.Args[0], c.Env, c.Stdout = "srtest", append(os.Environ(), "TMPDIR="+tmp), write
	c.WaitDelay = time.Second
	ended := time.AfterFunc(2*time.Minute, func() { c.Process.Kill() })
	err = c.Run()
	if !ended.Stop() || c.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if left, _ := filepath.Glob(tmp + "/*/*"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// plugged is a volume plugin's directory with nothing in it but Plugin.Query.
func plugged(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "volume", "x")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(filepath.Dir(filepath.Dir(dir)), "datapath"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Plugin.Query"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The runner tells passed, failed and skipped apart, in both languages.
func TestRunner(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good": "exec true\n", "bad": "# It is true.\nexec true\n\n# It is\n# false.\n\nexec false\n", "left_out": "skip 'for a reason'\n",
		"unknown_verb": "plugg\n", "unknown_condition": "[rooot] exec true\n", "no_call": "call Volume.creat\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := options{targets: targets{each: []target{{volume: plugged(t)}}}, kinds: "tmpfs", match: regexp.MustCompile(""), jobs: 2, scripts: []string{dir}}
	both := map[string]string{}
	for _, o.json = range []bool{false, true} {
		var out bytes.Buffer
		o.out, o.errs = &out, io.Discard
		if err := o.runScenarios(); err == nil || err.Error() != "4 of 5 scenarios failed" {
			t.Errorf("the run ends with %v", err)
		}
		both[map[bool]string{false: "tap", true: "json"}[o.json]] = out.String()
	}
	for _, want := range []string{
		"TAP version 14\n", " - tmpfs/bad\n  ---\n  at: \"bad.txtar:7\"\n  command: \"exec false\"\n  should_hold: \"It is false.\"\n",
		" - tmpfs/good\n", " - tmpfs/left_out # SKIP for a reason\n", `did you mean`, `rooot`, "there is no call Volume.creat in the interface",
		"1..6\n# skipped, for a reason: tmpfs/left_out\n# failed: tmpfs/bad tmpfs/no_call tmpfs/unknown_condition tmpfs/unknown_verb\n# 1 passed, 4 failed, 1 skipped\n",
	} {
		if !strings.Contains(both["tap"], want) {
			t.Errorf("%q is not in\n%s", want, both["tap"])
		}
	}
	lines := strings.Split(strings.TrimSpace(both["json"]), "\n")
	failures := 0
	for _, line := range lines[:len(lines)-1] {
		var r scripts.Result
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Name == "" || r.FS != "tmpfs" {
			t.Errorf("%s: %v", line, err)
		}
		if r.Failure != nil && r.Failure.Line > 0 && r.Verdict == scripts.Failed {
			failures++
		}
	}
	if lines[len(lines)-1] != `{"failed":4,"passed":1,"skipped":1}` || len(lines) != 7 || failures != 4 {
		t.Errorf("%d failures in\n%s", failures, both["json"])
	}
}

// A scenario that never ends is stopped, with what it has running.
func TestLimit(t *testing.T) {
	script := filepath.Join(t.TempDir(), "endless.txtar")
	if err := os.WriteFile(script, []byte("exec sh -c 'while :; do sleep 0.1; done'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	o := options{targets: targets{each: []target{{volume: plugged(t)}}}, kinds: "tmpfs", match: regexp.MustCompile(""), jobs: 1,
		limit: 200 * time.Millisecond, scripts: []string{script}, out: &out, errs: io.Discard}
	if err := o.runScenarios(); err == nil || !strings.Contains(out.String(), "the scenario was stopped: it had been running for 200ms") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A Ctrl-C ends scenarios in the middle, and nothing of them is left.
func TestInterrupted(t *testing.T) {
	tests.Root(t, "srtest run")
	dir, tmp := t.TempDir(), t.TempDir()
	script := "fs tmpfs 64MiB\nexec sh -c 'head -c 1048576 /dev/zero >$MNT/disk; losetup -f $MNT/disk; touch ../begun; sleep 600'\n"
	if err := os.WriteFile(filepath.Join(dir, "waits.txtar"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []os.Signal{os.Interrupt, unix.SIGTERM} {
		c := exec.Command(self, "run", "-volume", plugged(t), "-fs", "tmpfs", dir)
		c.Args[0] = "srtest"
		c.Env = append(os.Environ(), "TMPDIR="+tmp)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if found, _ := filepath.Glob(tmp + "/*/begun"); len(found) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it never began\n%s", out.String())
			}
		}
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		// From a terminal it comes twice.
		time.Sleep(20 * time.Millisecond)
		c.Process.Signal(sig)
		over := make(chan error, 1)
		go func() { over <- c.Wait() }()
		select {
		case err = <-over:
		case <-time.After(2 * time.Minute):
			c.Process.Kill()
			t.Fatal("it did not end")
		}
		if c.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "interrupted") {
			t.Errorf("%v: %v\n%s", sig, err, out.String())
		}
		left, _ := filepath.Glob(tmp + "/*")
		for _, path := range left {
			if filepath.Base(path) == "begun" {
				continue
			}
			if inside, _ := filepath.Glob(path + "/*"); len(inside) > 1 || len(inside) == 1 && filepath.Base(inside[0]) != "begun" {
				t.Errorf("%v: %s is left, with %q", sig, path, inside)
			}
			os.RemoveAll(path)
		}
		bound, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, path := range bound {
			if backing, _ := os.ReadFile(path); strings.Contains(string(backing), tmp) || strings.TrimSpace(string(backing)) == "/disk" {
				t.Errorf("%v: %s is still attached", sig, strings.TrimSpace(string(backing)))
			}
		}
	}
}
