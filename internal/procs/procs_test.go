package procs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// A process has open what it has open, and is told of by what it is.
func TestThisProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := sys.Fstat(f)
	if err != nil {
		t.Fatal(err)
	}
	if !HasOpen(os.Getpid(), st) {
		t.Error("what is open is not")
	}
	f.Close()
	if HasOpen(os.Getpid(), st) {
		t.Error("what was closed is open")
	}
	if got := Describe(os.Getpid()); !regexp.MustCompile(`^process \d+ \(procs\.test, since \d\d:\d\d:\d\d\)$`).MatchString(got) {
		t.Error(got)
	}
	if got := Describe(0); got != "process 0 (.)" {
		t.Errorf("a process that is no more: %q", got)
	}
}

// Who has a file open is found, and not who has another of the same name.
func TestOpeners(t *testing.T) {
	var numbers [2]*unix.Stat_t
	var path [2]string
	for i := range path {
		path[i] = filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path[i], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		numbers[i] = new(unix.Stat_t)
		if err := unix.Stat(path[i], numbers[i]); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := Openers("f", numbers[0].Dev, numbers[0].Ino); got != nil {
		t.Errorf("this process is listed: %d", got)
	}
	c := exec.Command("sleep", "100")
	c.Stdin = f
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	if got := Openers("f", numbers[0].Dev, numbers[0].Ino); !slices.Equal(got, []int{c.Process.Pid}) {
		t.Errorf("%d, want %d", got, c.Process.Pid)
	}
	if got := Openers("f", numbers[1].Dev, numbers[1].Ino); got != nil {
		t.Errorf("another file of the same name: %d", got)
	}
}
