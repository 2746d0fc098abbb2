// Package sandbox runs a program in surroundings that are not as usual, for real:
// on Linux 4.19, that of XCP-ng 8.3's dom0, with few file descriptors, or with system
// calls that fail.
package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sandbox is what a program finds. The zero value is the host as it is.
type Sandbox struct {
	Kernel419 bool     // system calls that are newer than Linux 4.19 are answered as there
	NoFile    uint64   // the most file descriptors that it may have; 0: as many as ever
	Faults    []Fault  // system calls that fail
	Below     []string // beginnings of paths: the files that faults without a pattern are about
	Dirs      []string // directories that patterns are relative to; see Name
	Hits      string   // a file in which is noted what came to pass; see Missed
}

// Unusual says whether there is anything to be done.
func (s Sandbox) Unusual() bool { return s.Kernel419 || s.NoFile > 0 || len(s.Faults) > 0 }

// argv0 is the name by which a program that calls Hook becomes the wrapper, inside the
// name of a wrapper that another one supervises: the socket to it is descriptor 3.
const argv0, inside = "in-a-sandbox", "in-a-supervised-sandbox"

// Command is the command line that runs a program in the sandbox: execute the
// running program's own file with it. That program must call Hook first thing.
func (s Sandbox) Command(path string, args ...string) (self string, argv []string, err error) {
	encoded, err := json.Marshal(s)
	if err != nil {
		return "", nil, err
	}
	self, err = os.Executable()
	return self, append([]string{argv0, string(encoded), path}, args...), err
}

// Hook makes this process the wrapper if it was started as one, and then does
// not return.
func Hook() {
	if os.Args[0] != argv0 && os.Args[0] != inside {
		return
	}
	runtime.LockOSThread() // filters are a thread's, and of what it becomes
	var s Sandbox
	err := json.Unmarshal([]byte(os.Args[1]), &s)
	switch {
	case err != nil:
	case os.Args[0] == argv0 && len(s.Faults) > 0:
		err = s.supervised()
	default:
		err = s.become(os.Args[2:])
	}
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	os.Exit(126)
}

// become makes this process the program. That has descriptors 0 to 2 and no other,
// as under forkexecd: what a shell or a test runner left open here would count.
func (s Sandbox) become(argv []string) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	if s.Kernel419 {
		if err := beKernel419(); err != nil {
			return fmt.Errorf("seccomp: %w", err)
		}
	}
	if s.NoFile > 0 {
		limit := unix.Rlimit{Cur: s.NoFile, Max: s.NoFile}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
	}
	if len(s.Faults) > 0 {
		if err := s.surrender(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

// closeOnExec marks every descriptor from 3 on.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// supervised runs the program in a second process, and ends as that ends.
func (s Sandbox) supervised() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	c := exec.Command(self)
	c.Args = append([]string{inside}, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = []*os.File{theirs}
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	theirs.Close()
	listener, err := receive(pair[0])
	if err == nil {
		err = s.supervise(listener)
	}
	if err != nil {
		c.Process.Kill()
	}
	c.Wait()
	if err != nil {
		return err
	}
	if status := c.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		unix.Kill(os.Getpid(), status.Signal())
	}
	os.Exit(c.ProcessState.ExitCode())
	return nil
}
