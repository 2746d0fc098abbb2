package overwrite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// A file is not free while anybody has it open for writing: a process, or a mapping of one
// that has closed it. Who reads does not count.
func TestFileIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := FileIsFree(path); err != nil {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	free := func(when string) {
		t.Helper()
		if err := FileIsFree(path); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused := func(when, why string) {
		t.Helper()
		if err := FileIsFree(path); !errors.Is(err, fault.ErrSRInUse) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", when, err, why)
		}
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	free("read")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mapping, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	refused("open", fmt.Sprintf("process %d (sleep) has it open for writing", cmd.Process.Pid))
	cmd.Process.Kill()
	cmd.Wait()
	refused("mapped", "by no process that can be seen")
	if err := unix.Munmap(mapping); err != nil {
		t.Fatal(err)
	}
	free("at the end")
}
