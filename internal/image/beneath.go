package image

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// beneath finds a file by a path that is relative to a directory, and in it or below it: unix.EXDEV if it is elsewhere. It is not
// opened, only looked at.
func beneath(dir *os.File, path string) (*os.File, error) {
	if !local(path) {
		return nil, unix.EXDEV
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := openat2(dir, path, &how)
	for tries := 0; err == unix.EAGAIN && tries < 100; tries++ { // something was renamed on the way
		fd, err = openat2(dir, path, &how)
	}
	switch err {
	case nil:
		return os.NewFile(uintptr(fd), path), nil // #nosec G115 -- not negative
	case unix.ENOSYS, unix.EPERM: // before Linux 5.6, or in a container that does not know the call
		return beneathUnlinked(dir, path)
	}
	return nil, err
}

func openat2(dir *os.File, path string, how *unix.OpenHow) (int, error) {
	return sys.Retry(func() (int, error) { return unix.Openat2(int(dir.Fd()), path, how) })
}

// beneathUnlinked is beneath where the kernel does not help: it follows no links at all, each of which is unix.ELOOP.
func beneathUnlinked(dir *os.File, path string) (*os.File, error) {
	at := dir
	for rest := filepath.Clean(path); rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		fd, err := sys.Retry(func() (int, error) {
			return unix.Openat(int(at.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if at != dir {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = os.NewFile(uintptr(fd), path) // #nosec G115 -- not negative
		st, err := sys.Fstat(at)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			err = unix.ELOOP
		}
		if err != nil {
			at.Close()
			return nil, err
		}
	}
	return at, nil
}

// local says whether a path leads up nowhere.
func local(path string) bool {
	if path == "" || filepath.IsAbs(path) {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == ".." {
			return false
		}
	}
	return true
}
