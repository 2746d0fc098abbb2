package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// Text is what a file of /proc or /sys says; "" if it cannot be read.
func Text(path string) string {
	data, _ := ReadFile(path)
	return string(data)
}

// ReadFile is os.ReadFile for small files of the system's. The other asks the poller first whether they are sockets, which
// is most of what it does.
func ReadFile(path string) ([]byte, error) {
	fd, err := Retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 4096)
	for {
		n, err := Retry(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return data, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return data, nil
		}
		if data = data[:len(data)+n]; len(data) == cap(data) {
			data = append(data, make([]byte, len(data))...)[:len(data)]
		}
	}
}
