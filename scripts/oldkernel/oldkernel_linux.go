// Package oldkernel runs a program as if the kernel were Linux 4.19, that of
// XCP-ng 8.3's dom0: a seccomp filter answers the newer calls as that kernel does,
// so that every fallback is run for real.
package oldkernel

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// argv0 is the name by which a program that calls Hook becomes the wrapper.
const argv0 = "as-on-linux-4.19"

// Command is the command line that runs a program under the filter: execute the
// running program's own file with it. That program must call Hook first thing.
func Command(path string, args ...string) (self string, argv []string, err error) {
	self, err = os.Executable()
	return self, append([]string{argv0, path}, args...), err
}

// Hook makes this process the wrapper if it was started as one, and then does
// not return.
func Hook() {
	if os.Args[0] != argv0 {
		return
	}
	runtime.LockOSThread()
	if err := install(); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(126)
	}
	err := unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	fmt.Fprintln(os.Stderr, os.Args[1], err)
	os.Exit(127)
}

const fsIocGetfsuuid = 0x80111500 // FS_IOC_GETFSUUID, Linux 6.9

// refused are system calls that Linux 4.19 does not know.
var refused = []uint32{
	unix.SYS_OPENAT2, unix.SYS_IO_URING_SETUP, unix.SYS_PIDFD_OPEN, unix.SYS_CLONE3,
	unix.SYS_CLOSE_RANGE, unix.SYS_FACCESSAT2, unix.SYS_FSOPEN, unix.SYS_MOUNT_SETATTR,
}

// unknown are ioctls that it does not know, with its answers.
var unknown = []struct {
	request uint32
	errno   unix.Errno
}{
	{unix.LOOP_CONFIGURE, unix.EINVAL},
	{fsIocGetfsuuid, unix.ENOTTY},
}

func install() error {
	// struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6].
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	// equal skips the next instruction unless the value is k.
	equal := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: 1}
	}
	errno := func(e unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(e)) }

	program := []unix.SockFilter{load(0)}
	for _, nr := range refused {
		program = append(program, equal(nr), errno(unix.ENOSYS))
	}
	// Everything but ioctl is as ever.
	program = append(program,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_IOCTL, Jt: 1},
		ret(unix.SECCOMP_RET_ALLOW), load(24)) // the low half of args[1]
	for _, u := range unknown {
		program = append(program, equal(u.request), errno(u.errno))
	}
	program = append(program, ret(unix.SECCOMP_RET_ALLOW))

	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)))
	if e != 0 {
		return e
	}
	return nil
}
