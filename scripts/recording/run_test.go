package recording

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// plugin makes a directory volume/plugin of sh scripts.
func plugin(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "volume", "plugin")
	for name, text := range files {
		path := filepath.Join(dir, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func srtest(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exec.Command(self, append([]string{"srtest"}, args...)...)
}

func readLog(t *testing.T, path string) []Call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls, errs := Read(f)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return calls
}

// Bytes, status, arguments, environment and directory pass as they are.
func TestRecordIsTransparent(t *testing.T) {
	script := "#!/bin/sh\nprintf '%s|' \"${0##*/}\" \"$@\" \"$PWD\" \"$SAID\"; cat; printf 'oh\\000\\377' >&2; exit 7\n"
	dir := plugin(t, map[string]string{"Volume.snapshot": script})
	log := filepath.Join(t.TempDir(), "log")
	run := func(c *exec.Cmd) (string, string, int) {
		var out, errs bytes.Buffer
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(`{"dbg":"x"}`), &out, &errs
		c.Dir, c.Env = t.TempDir()[:4], append(os.Environ(), "SAID=yes")
		c.Run()
		return out.String(), errs.String(), c.ProcessState.ExitCode()
	}
	program := filepath.Join(dir, "Volume.snapshot")
	o1, e1, s1 := run(exec.Command(program, "--json", "a b", ""))
	o2, e2, s2 := run(srtest("record", log, program, "--json", "a b", ""))
	if o1 != o2 || e1 != e2 || s1 != s2 || s1 != 7 {
		t.Errorf("%q %q %d, recorded %q %q %d", o1, e1, s1, o2, e2, s2)
	}
	calls := readLog(t, log)
	if len(calls) != 1 {
		t.Fatal(calls)
	}
	c := calls[0]
	if c.Call != "Volume.snapshot" || c.Plugin != "plugin" || string(c.Request) != `{"dbg":"x"}` || c.AnswerText != o1 || c.Status != 7 ||
		len(c.Args) != 3 || c.Seconds <= 0 || c.PID == 0 || time.Since(c.Time) > time.Minute {
		t.Errorf("%+v", c)
	}
	if st, err := os.Stat(log); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestRecordLongOutput(t *testing.T) {
	dir := plugin(t, map[string]string{"SR.ls": "#!/bin/sh\nhead -c 3000000 /dev/zero\n"})
	log := filepath.Join(t.TempDir(), "log")
	out, err := srtest("record", log, filepath.Join(dir, "SR.ls"), "--json").Output()
	if err != nil || len(out) != 3000000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if c := readLog(t, log)[0]; len(c.Cut) == 0 || c.AnswerText == "" {
		t.Errorf("cut %q", c.Cut)
	}
}

// A signal that ends the plugin ends the recorder, also such at which Go would print.
func TestRecordDeathBySignal(t *testing.T) {
	dir := plugin(t, map[string]string{"SR.ls": "#!/bin/sh\nkill -$2 $$\nsleep 5\n"})
	for name, number := range map[string]syscall.Signal{"KILL": 9, "SEGV": 11, "QUIT": 3, "TERM": 15, "PIPE": 13} {
		log := filepath.Join(t.TempDir(), "log")
		c := srtest("record", log, filepath.Join(dir, "SR.ls"), "--json", name)
		var errs bytes.Buffer
		c.Stderr = &errs
		c.Run()
		if ws := c.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != number || errs.Len() > 0 {
			t.Errorf("%s: %v, %s", name, c.ProcessState, errs.String())
		}
		if call := readLog(t, log)[0]; call.Signal != "SIG"+name || call.Status != 128+int(number) {
			t.Errorf("%+v", call)
		}
	}
}

// SIGTERM to the recorder is the plugin's to answer.
func TestRecordPassesSignals(t *testing.T) {
	dir := plugin(t, map[string]string{"SR.ls": "#!/bin/sh\ntrap 'echo bye; exit 3' TERM\necho up\nwhile :; do sleep 0.01; done\n"})
	c := srtest("record", filepath.Join(t.TempDir(), "log"), filepath.Join(dir, "SR.ls"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	up := make([]byte, 3)
	if _, err := io.ReadFull(out, up); err != nil {
		t.Fatal(err)
	}
	c.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(out)
	c.Wait()
	if string(rest) != "bye\n" || c.ProcessState.ExitCode() != 3 {
		t.Errorf("%q, %v", rest, c.ProcessState)
	}
}

// The request's end need not come, and nobody need listen.
func TestRecordStreamsLeftOpen(t *testing.T) {
	dir := plugin(t, map[string]string{
		"SR.ls":   "#!/bin/sh\necho done\n",
		"SR.stat": "#!/bin/sh\nwhile echo more; do :; done\n",
		"SR.scan": "#!/bin/sh\n(sleep 0.3; echo late) &\necho early\n",
	})
	c := srtest("record", "/dev/null", filepath.Join(dir, "SR.ls"))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if out, err := c.Output(); string(out) != "done\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}

	c = srtest("record", "/dev/null", filepath.Join(dir, "SR.stat"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 4))
	out.Close()
	ended := make(chan error)
	go func() { ended <- c.Wait() }()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Error("it goes on though nobody listens")
		c.Process.Kill()
	}

	got, err := srtest("record", "/dev/null", filepath.Join(dir, "SR.scan")).Output()
	if string(got) != "early\nlate\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A recording that cannot be written changes nothing.
func TestRecordWithoutLog(t *testing.T) {
	dir := plugin(t, map[string]string{"SR.ls": "#!/bin/sh\ncat\n"})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{t.TempDir(), "/nowhere/log", "/dev/full", fifo, ""} {
		c := srtest("record", log, filepath.Join(dir, "SR.ls"))
		c.Stdin = strings.NewReader("[]")
		var errs bytes.Buffer
		c.Stderr = &errs
		if out, err := c.Output(); string(out) != "[]" || err != nil || errs.Len() > 0 {
			t.Errorf("%s: %q, %v, %s", log, out, err, errs.String())
		}
	}
}

func TestAppendBesideOthers(t *testing.T) {
	dir := plugin(t, map[string]string{"SR.ls": "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x\n"})
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte(`{"time":`), 0o600); err != nil { // half a line
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5 {
				srtest("record", log, filepath.Join(dir, "SR.ls")).Run()
			}
		})
	}
	group.Wait()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if calls, errs := Read(f); len(calls) != 20 || len(errs) != 1 {
		t.Errorf("%d calls, %v", len(calls), errs)
	}
}
