package rig

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Log is what calls tell the system's log.
type Log struct {
	socket *net.UnixConn
	lock   sync.Mutex
	lines  []string
}

// PrivateLog hears the log in the host's place. For that this process, which must be in a mount namespace
// of its own, and its children have a /dev with little in it: whoever needs a loop device makes its node.
// The host's /dev/shm stays, for a plugin may be there.
func PrivateLog() (*Log, error) {
	shared, err := unix.Open("/dev/shm", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(shared)
	} else if err != unix.ENOENT {
		return nil, &os.PathError{Op: "open", Path: "/dev/shm", Err: err}
	}
	there := err == nil
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return nil, fmt.Errorf("mounting a /dev: %w", err)
	}
	for name, number := range map[string][2]uint32{"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "loop-control": {10, 237}} {
		if err := unix.Mknod("/dev/"+name, unix.S_IFCHR|0o600, int(unix.Mkdev(number[0], number[1]))); err != nil { // #nosec G115 -- small
			return nil, &os.PathError{Op: "mknod", Path: "/dev/" + name, Err: err}
		}
	}
	if there {
		if err := os.Mkdir("/dev/shm", 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", shared), "/dev/shm", "", unix.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("mounting /dev/shm: %w", err)
		}
	}
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "/dev/log"})
	if err != nil {
		return nil, err
	}
	l := &Log{socket: socket}
	go l.listen()
	return l, nil
}

// Close gives the host's /dev back.
func (l *Log) Close() error {
	l.socket.Close()
	return unix.Unmount("/dev", unix.MNT_DETACH)
}

func (l *Log) listen() {
	b := make([]byte, 64<<10)
	for {
		n, err := l.socket.Read(b)
		if err != nil {
			return
		}
		l.lock.Lock()
		l.lines = append(l.lines, string(b[:n]))
		l.lock.Unlock()
	}
}

// heardWithin is for how long the last line of a call may take to be read, on a busy host.
const heardWithin = 20 * time.Second

// Of lists what the process of a call has told, which has ended by itself, and forgets everything else. It is an
// error if that was not all: if the last line of every call, that it is done or failed, is not there.
func (l *Log) Of(pid int) (lines []string, err error) {
	tag := fmt.Sprintf(" reflinksr[%d]: ", pid)
	for deadline := time.Now().Add(heardWithin); ; time.Sleep(time.Millisecond) {
		l.lock.Lock()
		for _, line := range l.lines {
			if _, text, ours := strings.Cut(line, tag); ours {
				lines = append(lines, text)
			}
		}
		l.lines = nil
		l.lock.Unlock()
		if n := len(lines); n > 0 && (strings.HasPrefix(lines[n-1], "done ") || strings.HasPrefix(lines[n-1], "failed ")) {
			return lines, nil
		}
		if time.Now().After(deadline) {
			return lines, fmt.Errorf("the call of process %d has not told the log that it is done: it told %q", pid, lines)
		}
	}
}
