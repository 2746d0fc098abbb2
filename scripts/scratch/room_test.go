package scratch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/scripts/owned"
)

// TestLeavesEverything is what TestNothingIsLeft runs: it makes all that tests make, says
// where, and ends in the way that the environment says.
func TestLeavesEverything(t *testing.T) {
	how := os.Getenv("REFLINKSR_LEAVE")
	if how == "" {
		return // it is a part of TestNothingIsLeft
	}
	if os.Getuid() == 0 {
		for _, dir := range []string{"/run/reflinksr/sr", "/run/simple-sr", "/run/sr-mount/x"} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for i, kind := range strings.Fields(os.Getenv("REFLINKSR_KINDS")) {
			fs, err := Make(kind, 512<<20, filepath.Join(t.TempDir(), "mnt"))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(filepath.Join(fs.Dir, "left-"+os.Getenv("REFLINKSR_NAME")+kind))
			if err == nil {
				err = f.Truncate(1 << 20)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "left"}); err != nil {
				t.Fatal(err)
			}
			if i == 0 && fs.Unmount() != nil {
				t.Error("it stays mounted")
			}
		}
	}
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(os.Getenv("REFLINKSR_READY"), []byte(os.TempDir()), 0o600)
	switch how {
	case "panics":
		panic("as go test does when time is up")
	case "hangs":
		select {}
	}
}

// Tests that panic, are killed, or take too long leave nothing: no file, no device, no
// process, nothing in /run. If whoever would clean up is killed as well, the next run does.
func TestNothingIsLeft(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"panics", "takes too long", "is killed", "is killed with all", "is interrupted"} {
		t.Run(how, func(t *testing.T) {
			kinds := "btrfs xfs tmpfs"
			if how == "is killed with all" {
				kinds = "btrfs xfs" // whose a tmpfs was, nothing tells afterwards
			}
			top, ready := t.TempDir(), filepath.Join(t.TempDir(), "ready")
			name := filepath.Base(filepath.Dir(top)) + strings.ReplaceAll(how, " ", "-")
			start := func(leave string, args ...string) (*exec.Cmd, *bytes.Buffer) {
				c := exec.Command(self, append([]string{"-test.run", "^TestLeavesEverything$"}, args...)...)
				c.Args[0] = "x.test"
				c.Env = append(os.Environ(), inRoom+"=", "TMPDIR="+top, "REFLINKSR_READY="+ready, "REFLINKSR_LEAVE="+leave, "REFLINKSR_NAME="+name, "REFLINKSR_KINDS="+kinds)
				out := new(bytes.Buffer)
				c.Stdout, c.Stderr, c.WaitDelay = out, out, 10*time.Second
				c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				return c, out
			}
			wait := func(c *exec.Cmd) (room string) {
				for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
					if data, err := os.ReadFile(ready); err == nil && len(data) > 0 {
						return string(data)
					}
					if time.Now().After(deadline) {
						c.Process.Kill()
						t.Fatal("it never began")
					}
				}
			}
			inner := func(c *exec.Cmd) []int { return owned.Processes(owned.ChildOf(c.Process.Pid)) }
			var c *exec.Cmd
			var out *bytes.Buffer
			room := ""
			switch how {
			case "panics":
				c, out = start("panics")
				room = wait(c)
			case "takes too long":
				c, out = start("hangs", "-test.timeout", "8s")
				room = wait(c)
			case "is killed", "is killed with all":
				c, out = start("hangs")
				room = wait(c)
				children := inner(c)
				if len(children) != 1 {
					t.Fatalf("its children are %v", children)
				}
				if how == "is killed with all" {
					c.Process.Kill()
				}
				unix.Kill(children[0], unix.SIGKILL)
			case "is interrupted":
				c, out = start("hangs")
				room = wait(c)
				c.Process.Signal(unix.SIGTERM)
			}
			if err := c.Wait(); err == nil {
				t.Errorf("it ended well\n%s", out)
			}
			if filepath.Dir(room) != top {
				t.Errorf("its files are in %s, want a directory in %s", room, top)
			}
			if how == "is killed with all" {
				if _, err := os.Stat(room); err != nil {
					t.Errorf("%v: somebody has cleaned up already", err)
				}
				c, out := start("")
				if err := c.Wait(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
			if left, _ := os.ReadDir(top); len(left) > 0 {
				t.Errorf("left: %v\n%s", left, out)
			}
			if left, _ := owned.Loops(func(file string) bool { return strings.Contains(file, "left-"+name) || strings.HasPrefix(file, top) }); len(left) > 0 {
				t.Errorf("devices are left: %+v\n%s", left, out)
				owned.Detach(left)
			}
			r := testRoom(room)
			if left := owned.Processes(r.isFrom); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			for _, path := range []string{"/run/reflinksr", "/run/simple-sr", "/run/sr-mount"} {
				// Without root nothing is made there, and what others have stays.
				if _, err := os.Stat(path); err == nil && os.Getuid() == 0 {
					t.Errorf("%s is left", path)
				}
			}
		})
	}
}

func testRoom(dir string) *room { return &room{dir: dir} }
