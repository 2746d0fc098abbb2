package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// HasOpen says whether process pid has the file open. The device number in
// /proc/locks is the superblock's, which on btrfs is not what stat tells.
func HasOpen(pid int, want *unix.Stat_t) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(fd, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return true
		}
	}
	return false
}

// Openers lists the processes that have a file open, but for this one: a file is known by its last name and its numbers. A server that is
// away must not hold this up: only what has the name is looked at, and no server is asked. One that ends meanwhile is not listed.
func Openers(name string, dev, ino uint64) (pids []int) {
	all, _ := os.ReadDir("/proc")
	for _, dir := range all {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if slices.ContainsFunc(fds, func(fd string) bool {
			path, err := os.Readlink(fd)
			if err != nil || filepath.Base(path) != name {
				return false
			}
			var st unix.Statx_t
			err = sys.Do(func() error { return unix.Statx(unix.AT_FDCWD, fd, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st) })
			return err == nil && st.Ino == ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == dev
		}) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Describe names a process for an operator: its number, the call that it makes, and since when.
func Describe(pid int) string {
	args := strings.Split(sys.Text(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
	text := fmt.Sprintf("process %d (%s", pid, filepath.Base(args[0]))
	if filepath.Base(args[0]) == "srctl" && len(args) > 1 && strings.Trim(args[1], "abcdefghijklmnopqrstuvwxyz-") == "" { // a verb
		text += " " + args[1]
	}
	if info, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		// The directory's time is about when the process started; a call is one process.
		text += ", since " + info.ModTime().Format(time.TimeOnly)
	}
	if done, ok := strings.CutPrefix(sys.Text(fmt.Sprintf("/proc/%d/comm", pid)), progress); ok {
		text += ", " + done
	}
	return text + ")"
}

// progress begins the name of a process that tells how far it is.
const progress = "reflink: "

// Progress has Describe tell how far this process is, as does whatever shows the names of processes. The
// kernel keeps 15 bytes of a name.
func Progress(percent int) {
	// #nosec G306 -- a file of the kernel's
	os.WriteFile("/proc/self/comm", fmt.Appendf(nil, "%s%d %%", progress, percent), 0)
}
