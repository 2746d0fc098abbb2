package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// programDirs are where the programs are that are run: not where the caller's
// environment says.
var programDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"}

// outputLimit bounds what is kept of what a program prints, in bytes.
const outputLimit = 4 << 10

// Run runs a program to its end, without a shell, and returns its exit status
// and what it printed. pack is the package that has it.
//
// A call starts no other program, which would cost more than the call. These are the
// exceptions: SR.create of a device and the probe of one, for nobody should rewrite mkfs
// and blkid; and what mounts an export of a server that is known by name. They are made
// once in the life of an SR, or of a boot.
func Run(pack, name string, args ...string) (status int, output string, err error) {
	return RunFor(0, pack, name, args...)
}

// RunFor is Run for at most so long; 0: as long as it takes. A program that a
// dead disk holds up cannot be ended, and is left to itself.
func RunFor(timeout time.Duration, pack, name string, args ...string) (status int, output string, err error) {
	path, err := Find(pack, name)
	if err != nil {
		return 0, "", err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	p, err := os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + strings.Join(programDirs, ":"), "LC_ALL=C"},
		Files: []*os.File{null, w, w},
		// If we are killed it is as well: whoever repeats the call would find it at work.
		Sys: &unix.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	w.Close()
	if err != nil {
		return 0, "", fmt.Errorf("starting %s: %w", path, err)
	}
	if timeout > 0 {
		if err := r.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return 0, "", err
		}
	}
	kept, readErr := io.ReadAll(io.LimitReader(r, outputLimit))
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		err := p.Kill()
		go p.Wait()
		return 0, "", errors.Join(fault.Errorf(fault.ErrUnavailable, name, "%s did not come to its end within %v: does the disk answer?", path, timeout), err)
	}
	_, drainErr := io.Copy(io.Discard, r)
	state, err := p.Wait()
	if err = errors.Join(err, readErr, drainErr); err != nil {
		return 0, "", fmt.Errorf("running %s: %w", path, err)
	}
	return state.ExitCode(), string(kept), nil
}

// Find answers the path of a program. If it is nowhere, the error names the package that has it.
func Find(pack, name string) (string, error) {
	for _, dir := range programDirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fault.Hint(fault.Errorf(fault.ErrUnsuitable, name, "%s is not installed on this host (it is in none of %s)", name, strings.Join(programDirs, ", ")),
		"install the package %s", pack)
}

// OneLine is what a program printed, fit for an error.
func OneLine(output string) string { return strings.Join(strings.Fields(output), " ") }
