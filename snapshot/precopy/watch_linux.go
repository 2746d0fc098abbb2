package precopy

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// others watches whether anybody lets go of a file that could write to it: another device
// of it, or the one that is traced, which may be back under its number at the end.
type others struct{ fd int }

func watch(f *os.File) (others, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return others{}, fmt.Errorf("%w: watching its file: %w", ErrGaveUp, err)
	}
	// The file that is open, not another that has its name by now.
	if _, err := unix.InotifyAddWatch(fd, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.IN_CLOSE_WRITE); err != nil {
		unix.Close(fd)
		return others{}, fmt.Errorf("%w: watching its file: %w", ErrGaveUp, err)
	}
	return others{fd}, nil
}

// check fails if somebody did.
func (o others) check() error {
	b := make([]byte, 4096)
	n, err := sys.Retry(func() (int, error) { return unix.Read(o.fd, b) })
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil:
		return fmt.Errorf("%w: watching its file: %w", ErrGaveUp, err)
	case n > 0:
		return fmt.Errorf("%w: something else had its file open for writing", ErrGaveUp)
	}
	return nil
}

func (o others) close() { unix.Close(o.fd) }
