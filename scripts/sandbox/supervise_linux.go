package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// surrender has the faults' calls of this thread, and of the program that it becomes, wait
// for what the process at the other end of the socket decides.
func (s Sandbox) surrender() error {
	var program []unix.SockFilter
	for _, f := range s.Faults {
		program = append(program, load(number))
		c := calls[f.Call]
		if c.number == unix.SYS_IOCTL {
			program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: c.number, Jf: 3}, load(request), equal(c.request))
		} else {
			program = append(program, equal(c.number))
		}
		program = append(program, verdict(unix.SECCOMP_RET_USER_NOTIF))
	}
	program = append(program, verdict(unix.SECCOMP_RET_ALLOW))
	// Once a call waits, only death interrupts it: a signal would make it two.
	const waitKillable = 1 << 5 // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19
	listener, err := install(program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|waitKillable)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	const socket = 3
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return err
	}
	// The last to have it open would otherwise wait for itself.
	unix.Close(int(listener))
	return unix.Close(socket)
}

// receive takes the listener from the socket.
func receive(socket int) (listener int, err error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("no listener came from the sandbox: %v", err)
	}
	rights, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return rights[0], nil
}

const (
	notifRecv     = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV, linux/seccomp.h
	notifSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	notifContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// notification is struct seccomp_notif, response struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// supervise decides on each call that waits, until there is nobody left to make any.
func (s Sandbox) supervise(listener int) error {
	hits, err := os.OpenFile(s.Hits, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	made := make([]int, len(s.Faults))
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return err
		}
		if poll[0].Revents&unix.POLLHUP != 0 {
			return nil
		}
		var n notification
		if err := control(listener, notifRecv, unsafe.Pointer(&n)); err != nil {
			if err == unix.EINTR || err == unix.ENOENT {
				continue // its maker died while it waited
			}
			return err
		}
		answer := response{id: n.id, flags: notifContinue}
		if call := n.named(); call != "" {
			if f := s.note(hits, made, call, calls[call].file(n)); f != nil {
				answer = response{id: n.id, errno: -int32(f.Errno)}
			}
		}
		control(listener, notifSend, unsafe.Pointer(&answer))
	}
}

func control(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// file is the path of what a call is on: that of the descriptor, or the path that it is given.
func (c systemCall) file(n notification) string {
	path := ""
	if c.path >= 0 {
		path = text(int(n.pid), uintptr(n.args[c.path]))
	}
	if filepath.IsAbs(path) {
		return path
	}
	dir := fmt.Sprintf("/proc/%d/cwd", n.pid)
	if fd := int32(n.args[c.fd]); fd != unix.AT_FDCWD {
		dir = fmt.Sprintf("/proc/%d/fd/%d", n.pid, fd)
	}
	dir, _ = os.Readlink(dir)
	return filepath.Join(dir, path)
}

// text reads a string of another process.
func text(pid int, address uintptr) string {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return ""
	}
	defer memory.Close()
	buffer := make([]byte, unix.PathMax)
	n, err := memory.ReadAt(buffer, int64(address))
	if n == 0 && err != nil && !errors.Is(err, unix.EIO) {
		return ""
	}
	found, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return string(found)
}
