package owned

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Processes lists the processes, other than this one, for which is says so of their number.
func Processes(is func(pid int) bool) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && is(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Signal sends a signal to a process for which is says so while it is held. Where processes
// cannot be held (before Linux 5.3), is has been asked just before.
func Signal(pid int, sig unix.Signal, is func(pid int) bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == unix.ENOSYS || err == unix.EPERM:
		if is(pid) {
			unix.Kill(pid, sig)
		}
	case err == nil:
		defer unix.Close(fd)
		if is(pid) {
			unix.PidfdSendSignal(fd, sig, nil, 0)
		}
	}
}

// ChildOf says which processes are children of one.
func ChildOf(parent int) func(pid int) bool {
	return func(pid int) bool { s, ok := statOf(pid); return ok && s.parent == parent }
}

// InGroup says which processes are in a process group of our session: a number of another
// session's is somebody else's.
func InGroup(group int) func(pid int) bool {
	own, known := statOf(os.Getpid())
	return func(pid int) bool {
		s, ok := statOf(pid)
		return known && ok && s.group == group && s.session == own.session
	}
}

// Ended says whether a process is no more, but perhaps for somebody's waiting for it.
func Ended(pid int) bool { s, ok := statOf(pid); return !ok || s.state == "Z" || s.state == "X" }

type stat struct {
	state                  string
	parent, group, session int
}

// statOf reads proc_pid_stat(5), where a name in brackets may hold anything.
func statOf(pid int) (s stat, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	_, err = fmt.Sscan(string(data[bytes.LastIndexByte(data, ')')+1:]), &s.state, &s.parent, &s.group, &s.session)
	return s, err == nil
}
