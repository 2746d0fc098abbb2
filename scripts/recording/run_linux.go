package recording

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Command is a plugin's program to run and record.
type Command struct {
	Path   string
	Argv   []string // the program's name, and what else is before Args; by default the path
	Args   []string // after the program
	Call   string   // by default the base name of the path
	Plugin string   // the plugin's name; by default that of the program's directory
	Log    string
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
}

// Run runs the program and records what was said. The caller sees what it would
// see without us: the bytes, the end of both outputs (also if a grandchild keeps
// one open), the exit status. Signals to end are passed on; if the program dies of
// one, so does this process. If this process is killed, the program is, too.
//
// What is not the same: the program's streams are pipes, whatever ours are.
//
// An error says that the program could not be started; nothing was read from In.
func (c Command) Run() (status int, err error) {
	// Pdeathsig is about the thread that starts the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	// SIGPIPE: a caller who stopped listening must end the program, not us.
	caught := []os.Signal{unix.SIGPIPE}
	for _, s := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		if !signal.Ignored(s) {
			caught = append(caught, s)
		}
	}
	signal.Notify(signals, caught...)
	defer signal.Stop(signals)

	if c.Argv == nil {
		c.Argv = []string{c.Path}
	}
	if c.Call == "" {
		c.Call = filepath.Base(c.Path)
	}
	cmd := &exec.Cmd{
		Path: c.Path, Args: append(slices.Clone(c.Argv), c.Args...),
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				if s != unix.SIGPIPE {
					cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()

	// Nobody waits for the end of the request: the program need not read it.
	var mutex sync.Mutex
	var request, answer, complaint capture
	go pass(c.In, stdin, func(p []byte) {
		mutex.Lock()
		defer mutex.Unlock()
		request.add(p)
	})
	var outputs sync.WaitGroup
	outputs.Go(func() { pass(stdout, notOurs{c.Out}, answer.add) })
	outputs.Go(func() { pass(stderr, notOurs{c.Err}, complaint.add) })
	outputs.Wait()
	cmd.Wait()

	line := Call{
		Time: start, Call: c.Call, Plugin: c.Plugin, Args: c.Args,
		Stderr: string(complaint.data), Status: cmd.ProcessState.ExitCode(),
		Seconds: time.Since(start).Seconds(), PID: cmd.Process.Pid,
	}
	if absolute, err := filepath.Abs(c.Path); err == nil && line.Plugin == "" {
		line.Plugin = filepath.Base(filepath.Dir(absolute))
	}
	mutex.Lock()
	line.Request, line.RequestText = request.value()
	if request.cut {
		line.Cut = append(line.Cut, "request")
	}
	mutex.Unlock()
	line.Answer, line.AnswerText = answer.value()
	if answer.cut {
		line.Cut = append(line.Cut, "answer")
	}
	if complaint.cut {
		line.Cut = append(line.Cut, "stderr")
	}
	ended, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ended.Signaled() {
		line.Signal, line.Status = unix.SignalName(ended.Signal()), 128+int(ended.Signal())
	}
	Append(c.Log, line) // whatever becomes of it
	if ended.Signaled() {
		dieOf(ended.Signal())
	}
	return line.Status, nil
}

// notOurs keeps pass from closing the caller's stream.
type notOurs struct{ io.Writer }

func (notOurs) Close() error { return nil }

// pass copies to the end. If nobody takes it any more, the giver is told by
// closing its end, as it would be without us.
func pass(from io.Reader, to io.WriteCloser, keep func([]byte)) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			keep(buffer[:n])
			if _, err := to.Write(buffer[:n]); err != nil {
				if c, ok := from.(io.Closer); ok {
					c.Close()
				}
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// dieOf ends this process as the program was ended. The Go runtime would print the
// goroutines at some signals, so its handler is taken away below it.
func dieOf(s syscall.Signal) {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // the program has left one, if any
	var byDefault [8]uint64                          // struct sigaction: SIG_DFL, no flags, no mask
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	unix.Kill(os.Getpid(), s)
	time.Sleep(100 * time.Millisecond) // it is on its way
}

// StartStatus is the exit status for a program that could not be started.
func StartStatus(err error) int {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return 127
	}
	return 126
}
