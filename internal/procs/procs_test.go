package procs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

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
