package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// reach is which files an image may name: those that are in its directory or below it, or all.
type reach struct {
	dir      *os.File // where the image is
	anywhere bool
	may      func(*os.File) error // nil: refuses none
}

// errOutside says that a file is named which is outside of the reach of what names it.
var errOutside = errors.New("that is not in its directory, nor below it")

// open opens a file that another one names, by a path that is relative to that one's directory if it is not absolute.
func (r *reach) open(from *file, name string) (*file, error) {
	seen, path, err := r.look(from, name)
	if err != nil {
		return nil, err
	}
	defer seen.Close()
	in, err := openSeen(seen, path, false, r.may)
	if err != nil {
		return nil, err
	}
	in.path, in.below = path, filepath.Join(from.below, filepath.Dir(name))
	return in, nil
}

func (r *reach) look(from *file, name string) (seen *os.File, path string, err error) {
	path = name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(from.path), path)
	}
	if r.anywhere {
		seen, err = os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return seen, path, err
	}
	dir, err := beneath(r.dir, from.below)
	if err == nil {
		defer dir.Close()
		seen, err = beneath(dir, name)
	}
	if err == unix.EXDEV || err == unix.ELOOP {
		return nil, "", errOutside
	}
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	return seen, path, nil
}

// openGiven opens the image that was asked for, wherever that is.
func openGiven(path string, may func(*os.File) error) (*file, error) {
	seen, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer seen.Close()
	in, err := openSeen(seen, path, true, may)
	if err != nil {
		return nil, err
	}
	in.below = "."
	if in.path, err = filepath.Abs(path); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// openSeen opens a file that was looked at, if it is one that can hold an image: to open a FIFO waits, and a tape, or a watchdog,
// does something of its own.
func openSeen(seen *os.File, name string, device bool, may func(*os.File) error) (*file, error) {
	st, err := sys.Fstat(seen)
	if err != nil {
		return nil, err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFREG:
		err = stored(seen, name)
	case kind != unix.S_IFBLK || !device:
		err = fault.Errorf(fault.ErrInvalid, name, "%s is no regular file", name)
	}
	if err != nil {
		return nil, err
	}
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", seen.Fd()), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name) // #nosec G115 -- not negative
	if may != nil {
		err = may(f)
	}
	var in *file
	if err == nil {
		in, err = allOf(f, name, st)
	}
	if err != nil {
		f.Close()
	}
	return in, err
}

// fileOf is an open file, if it is one that can hold an image.
func fileOf(f *os.File, name string) (*file, error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.Errorf(fault.ErrInvalid, name, "%s is no regular file", name)
	}
	if err := stored(f, name); err != nil {
		return nil, err
	}
	return allOf(f, name, st)
}

// allOf is all of an open file.
func allOf(f *os.File, name string, st *unix.Stat_t) (*file, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &file{ReaderAt: f, name: name, id: fmt.Sprint(st.Dev, st.Ino), size: size, holes: f, close: f.Close}, nil
}

// stored refuses what the kernel makes up when it is read, as in /proc and /sys. Those filesystems have no size; of the others that
// may have none it is known that they store what is written to them.
func stored(seen *os.File, name string) error {
	st, err := sys.Fstatfs(seen)
	if err != nil {
		return err
	}
	switch uint32(st.Type) { // #nosec G115 -- the magic numbers have 32 bits
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.FUSE_SUPER_MAGIC:
		return nil
	case unix.EFIVARFS_MAGIC: // has a size
	default:
		if st.Blocks > 0 {
			return nil
		}
	}
	return fault.Errorf(fault.ErrInvalid, name, "%s is nothing that was stored: the kernel makes it up when it is read, as all in /proc and /sys", name)
}
