package scratch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// isolated marks the process that runs in a mount namespace of its own.
const isolated = "REFLINKSR_ISOLATED"

// Endings are the signals that ask a program to end: under nohup without SIGHUP, which
// whoever asks to be told of it would hear of again.
func Endings() []os.Signal {
	signals := []os.Signal{os.Interrupt, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) {
		signals = append(signals, unix.SIGHUP)
	}
	return signals
}

// Isolate runs the program again in a mount namespace of its own and returns its
// exit status, with again true; in there it returns at once, with again false.
// What is mounted in there nobody else sees, and it goes with the last process,
// however that ends. Without root it does nothing.
//
// A test binary that it runs again has a directory of its own for temporary files, and
// what plugins keep in /run of its own, which end with it: also when it is killed because
// it took too long. That it has without root as well, but for /run.
func Isolate() (status int, again bool) {
	if strings.HasSuffix(os.Args[0], ".test") {
		return isolate(asTests)
	}
	return isolate(asProgram)
}

// IsolateInRoom is Isolate for a program that runs scenarios: it has a directory of its own
// for temporary files as tests have, so that what it leaves when all of it is killed is
// removed by the next run. What plugins keep in /run is everybody's.
func IsolateInRoom() (status int, again bool) {
	if os.Getuid() != 0 {
		return Isolate()
	}
	return isolate(inARoom)
}

// How a program is run again.
const (
	asProgram = "program"
	inARoom   = "room"
	asTests   = "tests"
)

func isolate(as string) (status int, again bool) {
	if os.Getenv(inRoom) != "" {
		as = asProgram
	}
	if os.Getuid() != 0 && as == asProgram && os.Getenv(isolated) == "" {
		return 0, false
	}
	if dir := os.Getenv(sweeping); dir != "" {
		return failed(sweep(dir)), true
	}
	if how := os.Getenv(isolated); how != "" {
		os.Unsetenv(isolated)
		err := error(nil)
		if os.Getuid() == 0 {
			err = makePrivate()
		}
		if err == nil && how == asTests && os.Getuid() == 0 {
			err = privateRun(os.TempDir())
		}
		return failed(err), err != nil
	}
	status, err := apart(as)
	if err != nil {
		return failed(err), true
	}
	return status, true
}

func failed(err error) (status int) {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func makePrivate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	return nil
}

// apart runs the program again and waits for its end.
func apart(as string) (status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := exec.Command(self)
	c.Args = os.Args
	c.Env = append(os.Environ(), isolated+"="+as)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	if os.Getuid() == 0 {
		c.SysProcAttr.Cloneflags = unix.CLONE_NEWNS
	}
	// They are passed on, and we wait for the inner process to clean up. It hears of
	// a Ctrl-C on the terminal by itself as well, so twice.
	signals := make(chan os.Signal, 4)
	endings := Endings()
	var r *room
	if as == asTests {
		endings = append(endings, unix.SIGQUIT) // what go test says when its timeout ends
	}
	if as != asProgram {
		if r, err = newRoom(); err != nil {
			return 0, err
		}
		c.Env = append(c.Env, "TMPDIR="+r.dir, inRoom+"="+r.dir)
	}
	signal.Notify(signals, endings...)
	var namespace *os.File
	// The signal comes when the thread ends that has started the process, not when the process
	// does: this one stays until then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err = c.Start(); err == nil {
		go func() {
			for s := range signals {
				c.Process.Signal(s)
			}
		}()
		if as == asTests && os.Getuid() == 0 { // its /run has nothing but what the tests mounted
			namespace, _ = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", c.Process.Pid))
		}
		err = c.Wait()
	} else {
		err = fmt.Errorf("making a mount namespace: %w", err)
	}
	if r != nil {
		if e := r.leave(namespace); e != nil {
			fmt.Fprintln(os.Stderr, "cleaning up after the tests:", e)
			status = 1
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	return status, err
}
