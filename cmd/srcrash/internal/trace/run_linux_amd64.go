package trace

import (
	"bytes"
	"errors"

	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// Run runs the command to its end, asks what it has left running to end, and waits for that.
func Run(c Command) (Result, error) {
	// ptrace(2) answers to one thread only.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := tracer{command: c}
	streams, err := t.start()
	defer func() {
		for _, f := range streams {
			if f != c.Stdout {
				f.Close()
			}
		}
	}()
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", c.Path, err)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	clock := time.AfterFunc(timeout, func() { t.hung.Store(true); t.signal(unix.SIGKILL) })
	err = t.loop()
	clock.Stop()
	r := Result{Status: t.status, Hung: t.hung.Load()}
	var e [2]error
	r.Stdout, e[0] = io.ReadAll(io.NewSectionReader(streams[1], 0, 1<<30))
	r.Stderr, e[1] = io.ReadAll(io.NewSectionReader(streams[2], 0, 1<<30))
	if err = errors.Join(err, t.blind, e[0], e[1]); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
	}
	return r, nil
}

// start starts the wrapper, which becomes the command, stopped at its first instruction.
func (t *tracer) start() (streams []*os.File, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		if i == 1 && t.command.Stdout != nil {
			streams = append(streams, t.command.Stdout)
			continue
		}
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			return streams, err
		}
		streams = append(streams, os.NewFile(uintptr(fd), name))
	}
	if _, err := streams[0].Write(t.command.Stdin); err != nil {
		return streams, err
	}
	if _, err := streams[0].Seek(0, 0); err != nil {
		return streams, err
	}
	env := t.command.Env
	if env == nil {
		env = os.Environ()
	}
	name := argv0
	if t.command.Looks {
		name += looking
	}
	t.pid, err = syscall.ForkExec(self, append([]string{name, t.command.Path}, t.command.Args...), &syscall.ProcAttr{
		Dir: t.command.Dir, Env: env,
		Files: []uintptr{streams[0].Fd(), streams[1].Fd(), streams[2].Fd()},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return streams, err
	}
	if _, err := wait(t.pid, &t.status); err != nil {
		return streams, err
	}
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return streams, err
	}
	return streams, unix.PtraceCont(t.pid, 0)
}

// wait waits for a process or thread that this thread traces, or any with -1.
func wait(pid int, status *syscall.WaitStatus) (int, error) {
	for {
		got, err := syscall.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if err != syscall.EINTR {
			return got, err
		}
	}
}

type tracer struct {
	command Command
	pid     int
	started bool // the wrapper has become the command
	status  syscall.WaitStatus
	hung    atomic.Bool
	blind   error // why calls may have been missed
	mu      sync.Mutex
	seen    map[int]bool // processes and threads that have not ended
}

func (t *tracer) ended(tid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, tid)
}

// signal sends each process a signal, once.
func (t *tracer) signal(s syscall.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := map[int]bool{}
	for id := range t.seen {
		if pid := processOf(id); pid > 0 && !asked[pid] {
			asked[pid] = true
			unix.Kill(pid, s)
		}
	}
}

// processOf is the process of a thread: 0 if it has ended.
func processOf(tid int) (pid int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid)) // which the list of /proc does not have, but /proc has
	if _, after, found := strings.Cut(string(status), "\nTgid:"); found {
		fmt.Sscan(after, &pid)
	}
	return pid
}

// loop follows the command and its descendants until none is left.
func (t *tracer) loop() error {
	t.seen = map[int]bool{t.pid: true}
	for {
		var status syscall.WaitStatus
		tid, err := wait(-1, &status)
		if err == syscall.ECHILD {
			return nil
		}
		if err != nil {
			return err
		}
		if !status.Stopped() {
			t.ended(tid)
			if tid == t.pid {
				t.status = status
				t.signal(unix.SIGTERM)
			}
			continue
		}
		// ESRCH: it was killed meanwhile, and wait will say so.
		if err := t.stopped(tid, status); err != nil && err != syscall.ESRCH {
			unix.Kill(t.pid, unix.SIGKILL)
			return err
		}
	}
}

// stopped lets a stopped thread go on.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) error {
	t.mu.Lock()
	first := !t.seen[tid]
	t.seen[tid] = true
	t.mu.Unlock()
	signal := status.StopSignal()
	switch event := int(status) >> 16; {
	case event == unix.PTRACE_EVENT_SECCOMP:
		if t.started {
			return t.visit(tid)
		}
		return unix.PtraceCont(tid, 0)
	case event == unix.PTRACE_EVENT_EXEC:
		t.started = true
		return unix.PtraceCont(tid, 0)
	case event != 0, signal == unix.SIGTRAP, first && signal == unix.SIGSTOP:
		return unix.PtraceCont(tid, 0)
	}
	return unix.PtraceCont(tid, int(signal))
}

// visit shows a call that is about to be made, and does with it as it is told.
func (t *tracer) visit(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	c, ok := traced[regs.Orig_rax]
	if !ok {
		c, ok = look[regs.Orig_rax]
	}
	if !ok {
		if t.blind == nil {
			t.blind = fmt.Errorf("it makes system call %d, of which nobody has said what it can change", regs.Orig_rax)
		}
		return unix.PtraceCont(tid, 0)
	}
	args := [6]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9}
	stop, err := describe(tid, c, regs.Orig_rax, args)
	if err != nil && t.blind == nil {
		t.blind = err
	}
	var a Action
	if t.command.Stop != nil {
		a = t.command.Stop(stop)
	}
	switch {
	case a.Kill:
		// Every process and thread of the group dies before it makes another call.
		t.signal(unix.SIGKILL)
		return nil
	case a.Signal != 0:
		if err := unix.Kill(tid, a.Signal); err != nil {
			return err
		}
	case a.Errno != 0:
		regs.Orig_rax = ^uint64(0) // no such call: the kernel skips it
		regs.Rax = -uint64(a.Errno)
		if err := unix.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
	case a.Short && stop.Length > 1:
		regs.Rdx /= 2
		if err := unix.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
	}
	return unix.PtraceCont(tid, 0)
}

// describe reads what a call is about.
func describe(tid int, c call, nr uint64, args [6]uint64) (*Stop, error) {
	s := &Stop{}
	var err error
	s.Name, s.Kind, err = refine(c, nr, args)
	add := func(at, path int) {
		if path < 0 {
			return
		}
		s.Paths = append(s.Paths, resolve(tid, at, args, text(tid, args[path])))
	}
	if nr == unix.SYS_BIND {
		s.Paths = append(s.Paths, socketOf(tid, args[1]))
	}
	add(c.at, c.path)
	add(c.at2, c.path2)
	if c.fd >= 0 {
		fd := int32(args[c.fd])
		if fd == 1 && (nr == unix.SYS_WRITE || nr == unix.SYS_WRITEV) {
			s.Kind = Output
		}
		if fd >= 0 {
			s.Paths = append(s.Paths, link(tid, fmt.Sprintf("fd/%d", fd)))
		}
	}
	switch nr {
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		s.Length = args[2]
	}
	return s, err
}

// socketOf is the path in an address: "?" if it is no UNIX socket's.
func socketOf(tid int, address uint64) string {
	if family := text(tid, address); family != "\x01" { // 2 bytes, the low one first
		return "?"
	}
	return text(tid, address+2)
}

// resolve makes a path absolute.
func resolve(tid, at int, args [6]uint64, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	dir := "cwd"
	if at >= 0 && int32(args[at]) != unix.AT_FDCWD {
		dir = fmt.Sprintf("fd/%d", int32(args[at]))
	}
	return filepath.Join(link(tid, dir), path)
}

func link(tid int, name string) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", tid, name))
	if err != nil {
		return "?"
	}
	return path
}

// text reads a string of the stopped process.
func text(tid int, address uint64) string {
	var all []byte
	for len(all) < unix.PathMax {
		// Up to the end of the page: what follows may not be there.
		b := make([]byte, 4096-address%4096)
		n, err := unix.ProcessVMReadv(tid, []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}, []unix.RemoteIovec{{Base: uintptr(address), Len: len(b)}}, 0)
		if err != nil || n == 0 {
			break
		}
		if end := bytes.IndexByte(b[:n], 0); end >= 0 {
			return string(append(all, b[:end]...))
		}
		all = append(all, b[:n]...)
		address += uint64(n)
	}
	return string(all)
}
