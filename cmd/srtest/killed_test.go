package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/owned"
	"reflinksr/scripts/tests"
)

// What a run leaves that is killed with all that belongs to it, the next run removes: files,
// loop devices, processes.
func TestKilledRunIsSweptByTheNext(t *testing.T) {
	tests.Root(t, "srtest run")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	top, files := t.TempDir(), t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(files, name+".txtar")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	start := func(script string) (*exec.Cmd, *bytes.Buffer) {
		c := exec.Command(self, "run", "-fs", "btrfs", "-volume", plugged(t), script)
		c.Args[0] = "srtest"
		c.Env = append(os.Environ(), "TMPDIR="+top, "REFLINKSR_ROOM=")
		c.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
		out := new(bytes.Buffer)
		c.Stdout, c.Stderr, c.WaitDelay = out, out, 10*time.Second
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, out
	}
	loops := func() []owned.Loop {
		all, err := owned.Loops(owned.Below(top))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	ready := filepath.Join(files, "ready")
	c, out := start(script("hangs", "# It hangs.\nfs btrfs\nexec touch "+ready+"\nexec sleep 600\n"))
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		if time.Now().After(deadline) {
			unix.Kill(-c.Process.Pid, unix.SIGKILL)
			t.Fatalf("it never began\n%s", out)
		}
	}
	unix.Kill(-c.Process.Pid, unix.SIGKILL)
	c.Wait()
	if left, _ := os.ReadDir(top); len(left) == 0 {
		t.Error("nothing is left: what is to be swept?")
	}
	c, out = start(script("ends", "# It ends.\nfs btrfs\n"))
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := os.ReadDir(top); len(left) > 0 {
		t.Errorf("left: %v\n%s", left, out)
	}
	if left := loops(); len(left) > 0 {
		t.Errorf("devices are left: %+v", left)
		owned.Detach(left)
	}
	ours := func(pid int) bool {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		return err == nil && bytes.Contains(env, []byte("="+top))
	}
	if left := owned.Processes(ours); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}
