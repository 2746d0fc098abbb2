package sandbox

import "golang.org/x/sys/unix"

const fsIocGetfsuuid = 0x80111500 // FS_IOC_GETFSUUID, Linux 6.9

// newCalls are system calls that Linux 4.19 does not know.
var newCalls = []uint32{
	unix.SYS_OPENAT2, unix.SYS_IO_URING_SETUP, unix.SYS_PIDFD_OPEN, unix.SYS_CLONE3,
	unix.SYS_CLOSE_RANGE, unix.SYS_FACCESSAT2, unix.SYS_FSOPEN, unix.SYS_MOUNT_SETATTR,
}

// newRequests are ioctls that it does not know, with its answers.
var newRequests = []struct {
	request uint32
	errno   unix.Errno
}{
	{unix.LOOP_CONFIGURE, unix.EINVAL},
	{fsIocGetfsuuid, unix.ENOTTY},
}

// oldRelease has uname(2) tell a release before 3.0 (personality(2), UNAME26): there is none for 4.19.
const oldRelease = 0x0020000

// beKernel419 has newer calls answered as Linux 4.19 does, and an old release told.
func beKernel419() error {
	if _, _, errno := unix.Syscall(unix.SYS_PERSONALITY, oldRelease, 0, 0); errno != 0 {
		return errno
	}
	refuse := func(e unix.Errno) unix.SockFilter { return verdict(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	program := []unix.SockFilter{load(number)}
	for _, nr := range newCalls {
		program = append(program, equal(nr), refuse(unix.ENOSYS))
	}
	program = append(program, unequal(unix.SYS_IOCTL), verdict(unix.SECCOMP_RET_ALLOW), load(request))
	for _, u := range newRequests {
		program = append(program, equal(u.request), refuse(u.errno))
	}
	_, err := install(append(program, verdict(unix.SECCOMP_RET_ALLOW)), 0)
	return err
}
