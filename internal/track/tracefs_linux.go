package track

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// ErrUnsupported says that this kernel, or how it is locked down, lets nobody trace a device.
var ErrUnsupported = errors.New("this host cannot trace a block device")

// open opens the tracing filesystem: where it is mounted, or mounted where nobody else sees it.
func open() (dir int, err error) {
	for _, path := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		dir, err := openDir(unix.AT_FDCWD, path)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		if sys.Do(func() error { return unix.Fstatfs(dir, &st) }) == nil && int64(st.Type) == unix.TRACEFS_MAGIC {
			return dir, nil
		}
		unix.Close(dir)
	}
	dir, err = mountDetached()
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.2
		dir, err = mountApart()
	}
	if err != nil {
		return -1, fmt.Errorf("%w: mounting tracefs: %w", ErrUnsupported, err)
	}
	return dir, nil
}

// mountDetached mounts it nowhere. It is gone with the descriptor.
func mountDetached() (dir int, err error) {
	fs, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// mountApart mounts it in a namespace of a thread that ends with that. The descriptor keeps it.
func mountApart() (dir int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its goroutine, which does not unlock it
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return
		}
		const anywhere = "/sys"
		if err = unix.Mount("tracefs", anywhere, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err == nil {
			dir, err = openDir(unix.AT_FDCWD, anywhere)
			err = errors.Join(err, unix.Unmount(anywhere, unix.MNT_DETACH))
		}
	}()
	<-done
	return dir, err
}

func openDir(at int, path string) (int, error) {
	return openAt(at, path, unix.O_RDONLY|unix.O_DIRECTORY)
}

func openAt(at int, path string, flags int) (int, error) {
	fd, err := sys.Retry(func() (int, error) { return unix.Openat(at, path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0) })
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "tracefs " + path, Err: err}
	}
	return fd, nil
}

// readAt reads a small file.
func readAt(at int, path string) (string, error) {
	fd, err := openAt(at, path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), path) // #nosec G115 -- a descriptor
	defer f.Close()
	var text strings.Builder
	b := make([]byte, 4096)
	for text.Len() < 1<<20 {
		n, err := sys.Retry(func() (int, error) { return unix.Read(fd, b) })
		if err != nil {
			return "", &os.PathError{Op: "read", Path: "tracefs " + path, Err: err}
		}
		if n == 0 {
			break
		}
		text.Write(b[:n])
	}
	return text.String(), nil
}

// writeAt writes a setting.
func writeAt(at int, path, value string) error {
	fd, err := openAt(at, path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = sys.Retry(func() (int, error) { return unix.Write(fd, []byte(value)) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return &os.PathError{Op: "write", Path: "tracefs " + path, Err: err}
	}
	return nil
}

// names lists a directory.
func names(at int, path string) ([]string, error) {
	fd, err := openDir(at, path)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path) // #nosec G115 -- a descriptor
	defer f.Close()
	return f.Readdirnames(-1)
}
