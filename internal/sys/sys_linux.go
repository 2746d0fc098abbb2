package sys

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ioctl makes the ioctl request on an open file; arg points to its argument.
func Ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	return Do(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// Fstatfs describes the filesystem that holds an open file.
func Fstatfs(f *os.File) (*unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := Do(func() error { return unix.Fstatfs(int(f.Fd()), &st) }); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return &st, nil
}

// Fstat describes an open file.
func Fstat(f *os.File) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := Do(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return &st, nil
}

// Retry repeats a system call that a signal interrupted, as package os does.
func Retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

// Do is Retry of a call that answers nothing else.
func Do(call func() error) error {
	_, err := Retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// LeastDirect is how many bytes direct I/O can read and write at least of a file: 0 if the kernel (before Linux 6.1) or the
// filesystem does not tell.
func LeastDirect(f *os.File) (int, error) {
	var st unix.Statx_t
	err := Do(func() error { return unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st) })
	if err != nil {
		return 0, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Mask&unix.STATX_DIOALIGN == 0 {
		return 0, nil
	}
	return int(st.Dio_offset_align), nil
}
