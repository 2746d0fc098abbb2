package tests

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Tell prints a line where go test prints its errors, if that is a terminal or a pipe to
// somebody who reads it; else nowhere. It begins with the package.
func Tell(format string, args ...any) {
	// One write is one line, also when several packages tell something.
	fmt.Fprintf(listener(), "%s: "+format+"\n", append([]any{name()}, args...)...)
}

// listener is the standard error of the go command that runs this test binary: that of the
// binary is a pipe to it, of which it shows nothing if all is well.
var listener = sync.OnceValue(func() io.Writer {
	for pid, up := os.Getppid(), 0; up < 3; pid, up = parent(pid), up+1 { // the binary runs itself again (scratch.Isolate)
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			break
		}
		if filepath.Base(program) != "go" {
			continue
		}
		path := fmt.Sprintf("/proc/%d/fd/2", pid)
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			break
		}
		// In a file a second writer would overwrite what the first one writes.
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFIFO && kind != unix.S_IFCHR {
			break
		}
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			// It belongs to who became this user by su.
			f, err = os.OpenFile("/dev/tty", os.O_WRONLY|unix.O_NONBLOCK, 0)
		}
		if err != nil {
			break
		}
		return f
	}
	return io.Discard
})

func parent(pid int) (of int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	after := string(data[strings.LastIndexByte(string(data), ')')+1:])
	var state string
	fmt.Sscan(after, &state, &of)
	return of
}

// name is the package's import path.
var name = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return filepath.Base(os.Args[0])
	}
	return strings.TrimSuffix(info.Path, ".test")
})
