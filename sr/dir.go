package sr

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. The names given to its methods are single path
// components made by this program; links are never followed. Every descriptor is
// close-on-exec: an inherited one would keep an flock alive.
type Dir struct {
	f   *os.File
	dev uint64
}

// OpenDir opens the directory at an absolute path given by the operator. Links on
// the way to it are the operator's business and are followed.
func OpenDir(path string) (*Dir, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return newDir(fd, path)
}

// Sub opens the subdirectory name.
func (d *Dir) Sub(name string) (*Dir, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.join(name), Err: err}
	}
	return newDir(fd, d.join(name))
}

func newDir(fd int, path string) (*Dir, error) {
	d := &Dir{f: os.NewFile(uintptr(fd), path)}
	st, err := StatFile(d.f)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.dev = st.Dev
	return d, nil
}

// Mkdir makes the subdirectory name with mode 0700 if it is not there, and opens it.
func (d *Dir) Mkdir(name string) (*Dir, error) {
	err := retry0(func() error { return unix.Mkdirat(d.fd(), name, 0o700) })
	if err != nil && err != unix.EEXIST {
		return nil, &os.PathError{Op: "mkdir", Path: d.join(name), Err: err}
	}
	return d.Sub(name)
}

// Open opens an existing regular file. flags is O_RDONLY or O_RDWR. A link, a
// device, a FIFO, a file with a second hard link and a file of another filesystem
// (something mounted over the name) are refused with ErrDamaged; an absent one
// with an error that is os.ErrNotExist.
func (d *Dir) Open(name string, flags int) (*os.File, error) {
	// Look before opening: opening a device or a FIFO can have effects of its own.
	if _, err := d.Stat(name); err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd(), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.join(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.join(name))
	st, err := StatFile(f)
	if err == nil {
		err = d.acceptable(name, st)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Create makes a new regular file with mode 0600, open for reading and writing.
// It is an error (os.ErrExist) if the name is taken.
func (d *Dir) Create(name string) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: d.join(name), Err: err}
	}
	return os.NewFile(uintptr(fd), d.join(name)), nil
}

// Stat describes the regular file name, refusing what Open refuses.
func (d *Dir) Stat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := retry0(func() error { return unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: d.join(name), Err: err}
	}
	return &st, d.acceptable(name, &st)
}

// Exists says whether the name is taken, by whatever kind of file.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.Stat(name)
	switch {
	case err == nil, errors.Is(err, ErrDamaged):
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	}
	return false, err
}

func (d *Dir) acceptable(name string, st *unix.Stat_t) error {
	var why string
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		why = "not a regular file"
	case st.Nlink > 1:
		why = fmt.Sprintf("it has %d hard links, so something else can change it", st.Nlink)
	case st.Dev != d.dev:
		why = "something is mounted over it"
	default:
		return nil
	}
	return Errorf(ErrDamaged, name, "%s is refused: %s: put the file itself there, or move this away", d.join(name), why)
}

// Read returns the contents of the regular file name, at most limit bytes; a
// longer file is ErrDamaged.
func (d *Dir) Read(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = Errorf(ErrDamaged, name, "%s is longer than %d bytes", d.join(name), limit)
	}
	return data, err
}

// Rename moves from, in d, to the name to, in dst, replacing what is there.
func (d *Dir) Rename(from string, dst *Dir, to string) error {
	err := retry0(func() error { return unix.Renameat(d.fd(), from, dst.fd(), to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: d.join(from), New: dst.join(to), Err: err}
	}
	return nil
}

// swap exchanges two existing names atomically (RENAME_EXCHANGE).
func (d *Dir) swap(from string, dst *Dir, to string) error {
	err := retry0(func() error { return unix.Renameat2(d.fd(), from, dst.fd(), to, unix.RENAME_EXCHANGE) })
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: d.join(from), New: dst.join(to), Err: err}
	}
	return nil
}

// Remove unlinks name; an absent name is no error.
func (d *Dir) Remove(name string) error {
	err := retry0(func() error { return unix.Unlinkat(d.fd(), name, 0) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: d.join(name), Err: err}
	}
	return nil
}

// Rmdir removes the empty directory name; an absent one is no error.
func (d *Dir) Rmdir(name string) error {
	err := retry0(func() error { return unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: d.join(name), Err: err}
	}
	return nil
}

// Sync makes the directory's entries durable.
func (d *Dir) Sync() error { return d.f.Sync() }

// Names lists the directory in no particular order.
func (d *Dir) Names() ([]string, error) {
	// A descriptor of its own: the read position belongs to the open directory.
	fresh, err := d.Sub(".")
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	return fresh.f.Readdirnames(-1)
}

// Path is the path the directory was opened by, for messages.
func (d *Dir) Path() string { return d.f.Name() }

// Close releases the descriptor. Closing a nil Dir does nothing.
func (d *Dir) Close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}

func (d *Dir) fd() int                 { return int(d.f.Fd()) }
func (d *Dir) join(name string) string { return filepath.Join(d.f.Name(), name) }

// StatFile describes an open file.
func StatFile(f *os.File) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := retry0(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return &st, nil
}

// retry repeats a system call that a signal interrupted, as package os does.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

func retry0(call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}
