package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/sys"
)

// Refusal says what the system's error does not: why something may not be written to that
// usually may, and what to do about it. "" if nothing is known.
func Refusal(err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		for _, path := range refused(err, unix.EROFS) {
			if what, remedy := readOnlyAt(path); what != "" {
				return what + ": " + remedy
			}
		}
		return filesystemReadOnly + ": " + remountIt
	case errors.Is(err, unix.EPERM):
		var fixed []string
		for _, path := range refused(err, unix.EPERM) {
			for _, p := range []string{path, filepath.Dir(path)} {
				if isFixed(p) && !slices.Contains(fixed, p) {
					fixed = append(fixed, p)
				}
			}
		}
		if list := strings.Join(fixed, " "); list != "" {
			return "an attribute keeps it from being changed: chattr -i -a " + list
		}
	}
	return ""
}

// refused are the paths to which something was refused with that errno.
func refused(err error, errno unix.Errno) (paths []string) {
	switch e := err.(type) {
	case *os.PathError:
		if errors.Is(e.Err, errno) {
			return []string{e.Path}
		}
	case *os.LinkError:
		if errors.Is(e.Err, errno) {
			return []string{e.Old, e.New}
		}
	case interface{ Unwrap() error }:
		return refused(e.Unwrap(), errno)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			paths = append(paths, refused(err, errno)...)
		}
	}
	return paths
}

// readOnlyAt is ReadOnly of the directory in which the path is, or would be.
func readOnlyAt(path string) (what, remedy string) {
	d, err := dirfs.OpenDir(filepath.Dir(path))
	if err != nil {
		return "", ""
	}
	defer d.Close()
	what, remedy, err = ReadOnly(d)
	if err != nil {
		return "", ""
	}
	return what, remedy
}

// isFixed says whether what is at a path has an attribute that keeps it from being changed or
// removed, or, of a directory, what is in it. Where the filesystem does not tell, it has none.
func isFixed(path string) bool {
	fixed, err := fixedAt(unix.AT_FDCWD, path)
	return err == nil && fixed
}

// Fixed is Immutable of a name in the directory, whatever it is. It opens nothing.
func Fixed(d *dirfs.Dir, name string) (bool, error) { return fixedAt(d.Fd(), name) }

func fixedAt(dir int, name string) (bool, error) {
	var st unix.Statx_t
	err := sys.Do(func() error { return unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st) })
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0, nil
}
