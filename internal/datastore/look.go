package datastore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// openForeign opens a file that is no datastore's. It must be a regular one.
func openForeign(path string) (*os.File, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fault.Errorf(fault.ErrInvalid, path, "%q is not a regular file", fault.Shorten(path))
	}
	return f, nil
}

// fallsBack says whether a file that cannot be shared is to be copied: it comes from outside.
func fallsBack(err error) bool {
	return errors.Is(err, fault.ErrOtherFS) || errors.Is(err, unix.EINVAL)
}

// Allowed answers the path of a file, without links, if it may become an image: below one of the safe directories, or below none of the
// restricted. Directories are held against whole names: /tmp is not /tmpfoo.
func Allowed(path string, safe, restricted []string) (string, error) {
	if err := proper(path); err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	below := func(dir string) bool {
		dir = filepath.Clean(dir)
		if r, err := filepath.EvalSymlinks(dir); err == nil {
			dir = r
		}
		return dir == "/" || real == dir || strings.HasPrefix(real, dir+"/")
	}
	if slices.ContainsFunc(safe, below) || !slices.ContainsFunc(restricted, below) {
		return real, nil
	}
	return "", fault.Hint(fault.Errorf(fault.ErrInvalid, path, "%q is in a directory from which no images are taken", fault.Shorten(path)), "move the file, or name its directory in the datastore's SAFE_DIRS")
}

// Size is how long a file is that is to become an image, in bytes: of a disk as its guest will see it, unless it is raw data.
func Size(path string, raw bool) (int64, error) {
	f, err := openForeign(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if raw {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	m, err := foreign(f)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.Size(), nil
}

// Space is what a filesystem has, in bytes.
type Space struct{ Used, Total, Free int64 }

// Usage tells the space of the filesystem that a datastore is on.
func Usage(path string) (Space, error) {
	if err := proper(path); err != nil {
		return Space{}, err
	}
	var st unix.Statfs_t
	if err := sys.Do(func() error { return unix.Statfs(path, &st) }); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	n := func(blocks uint64) int64 { return int64(blocks) * st.Frsize } // #nosec G115 -- no filesystem is so large
	return Space{Used: n(st.Blocks - st.Bfree), Total: n(st.Blocks), Free: n(st.Bavail)}, nil
}
