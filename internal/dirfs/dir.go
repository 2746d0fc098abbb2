package dirfs

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// Dir is an open directory. The names given to its methods are single path
// components made by this program; links are never followed, and what is on another
// filesystem is refused. So nothing outside the directory is ever opened, whoever
// swaps its entries meanwhile: openat2(2) with RESOLVE_BENEATH, NO_SYMLINKS and
// NO_XDEV promises no more, and says nothing of FIFOs, devices and hard links. Every
// descriptor is close-on-exec: an inherited one would keep an flock alive.
type Dir struct {
	f      *os.File
	dev    uint64
	shared coherence // with other hosts
}

// OpenDir opens the directory at an absolute path given by the operator. Links on
// the way to it are the operator's business and are followed.
func OpenDir(path string) (*Dir, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return FromFD(fd, path)
}

// Sub opens the subdirectory name. One on another filesystem is ErrUnavailable.
func (d *Dir) Sub(name string) (*Dir, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Join(name), Err: err}
	}
	sub, err := newDir(fd, d.Join(name), d.shared)
	if err != nil {
		return nil, err
	}
	if sub.dev != d.dev {
		sub.Close()
		return nil, fault.Hint(fault.Errorf(fault.ErrUnavailable, d.Path(), "%s is refused: it is a subvolume, or something is mounted over it", d.Join(name)),
			"put the directory itself there")
	}
	return sub, nil
}

// FromFD makes a Dir of a descriptor, which belongs to it from now on; path is its name in errors.
func FromFD(fd int, path string) (*Dir, error) {
	d, err := newDir(fd, path, local{})
	if err != nil {
		return nil, err
	}
	if d.shared, err = coherenceOf(d.f); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func newDir(fd int, path string, shared coherence) (*Dir, error) {
	d := &Dir{f: os.NewFile(uintptr(fd), path), shared: shared}
	st, err := sys.Fstat(d.f)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.dev = st.Dev
	return d, nil
}

// Mkdir makes the subdirectory name if it is not there, and opens it. Its mode is
// 0700, also if it is there with another.
func (d *Dir) Mkdir(name string) (*Dir, error) {
	if err := d.Make(name); err != nil {
		return nil, err
	}
	sub, err := d.Sub(name)
	if err != nil {
		return nil, err
	}
	if err := SetMode(sub.f, 0o700); err != nil {
		sub.Close()
		return nil, err
	}
	return sub, nil
}

// Make makes the subdirectory name if it is not there.
func (d *Dir) Make(name string) error {
	err := sys.Do(func() error { return unix.Mkdirat(d.Fd(), name, 0o700) })
	if err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: d.Join(name), Err: err}
	}
	return nil
}

// SetMode gives what is open a mode, if it has another: the umask, a default ACL and
// the set-group-ID bit of the directory above all have their say in that of a new file.
func SetMode(f *os.File, mode uint32) error {
	st, err := sys.Fstat(f)
	if err != nil || st.Mode&0o7777 == mode {
		return err
	}
	if err := sys.Do(func() error { return unix.Fchmod(int(f.Fd()), mode) }); err != nil {
		return &os.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	return nil
}

// Sync makes the directory's entries durable.
func (d *Dir) Sync() error { return d.f.Sync() }

// Device is the number of the filesystem, as stat(2) tells it of every file.
func (d *Dir) Device() uint64 { return d.dev }

// Real is the path of the directory as the kernel sees it, without links.
func (d *Dir) Real() (string, error) { return os.Readlink("/proc/self/fd/" + strconv.Itoa(d.Fd())) }

// Path is the path the directory was opened by, for messages.
func (d *Dir) Path() string { return d.f.Name() }

// Close releases the descriptor. Closing a nil Dir does nothing.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}

// File is the open directory itself. It belongs to the Dir.
func (d *Dir) File() *os.File { return d.f }

// Fd is the descriptor of the open directory. It belongs to the Dir.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// Join is the path of a name in the directory, for errors.
func (d *Dir) Join(name string) string { return filepath.Join(d.f.Name(), name) }
