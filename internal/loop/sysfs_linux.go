package loop

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// blockDir has a directory for each loop device. /sys/block has links to these, which take longer to follow.
const blockDir = "/sys/devices/virtual/block"

func sysDir(n int) string { return blockDir + "/loop" + strconv.Itoa(n) }

// readText reads a file of sysfs about the device n.
func readText(n int, name string) (string, error) {
	data, err := readAt(unix.AT_FDCWD, sysDir(n)+"/"+name, make([]byte, os.Getpagesize()))
	return strings.TrimSuffix(string(data), "\n"), err
}

// readAt reads a file of sysfs, which is at most a page, into one. A host can have hundreds of devices, and what package
// os does besides (it asks the poller) doubles the time of each.
func readAt(dir int, path string, page []byte) ([]byte, error) {
	fd, err := openRaw(dir, path, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, page)
	for err == unix.EINTR {
		n, err = unix.Read(fd, page)
	}
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return page[:n], nil
}

// openRaw opens what is only read, for package unix.
func openRaw(dir int, path string, flags int) (int, error) {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	for err == unix.EINTR {
		fd, err = unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// namesIn lists an open directory; path is its name in errors.
func namesIn(dir int, path string) (names []string, err error) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(dir, buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &os.PathError{Op: "readdir", Path: path, Err: err}
		case n == 0:
			return names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}
