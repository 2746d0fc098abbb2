package scratch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

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
func Isolate() (status int, again bool) {
	if os.Getuid() != 0 {
		return 0, false
	}
	if os.Getenv(isolated) != "" {
		os.Unsetenv(isolated)
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "making mounts private:", err)
			return 1, true
		}
		return 0, false
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	c := exec.Command(self)
	c.Args = os.Args
	c.Env = append(os.Environ(), isolated+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM}
	// They are passed on, and we wait for the inner process to clean up. It hears of
	// a Ctrl-C on the terminal by itself as well, so twice.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, Endings()...)
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "making a mount namespace:", err)
		return 1, true
	}
	go func() {
		for s := range signals {
			c.Process.Signal(s)
		}
	}()
	err = c.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), true
	}
	fmt.Fprintln(os.Stderr, err)
	return 1, true
}
