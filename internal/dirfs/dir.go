package dirfs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	d, err := FromFD(fd, path)
	if err == nil {
		d.shared, err = coherenceOf(d.f)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Sub opens the subdirectory name. One on another filesystem is ErrUnavailable.
func (d *Dir) Sub(name string) (*Dir, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Join(name), Err: err}
	}
	sub, err := FromFD(fd, d.Join(name))
	if err != nil {
		return nil, err
	}
	sub.shared = d.shared
	if sub.dev != d.dev {
		sub.Close()
		return nil, fault.Errorf(fault.ErrUnavailable, d.Path(), "%s is refused: it is a subvolume, or something is mounted over it: put the directory itself there", d.Join(name))
	}
	return sub, nil
}

// FromFD makes a Dir of a descriptor, which belongs to it from now on; path is its name in errors.
func FromFD(fd int, path string) (*Dir, error) {
	d := &Dir{f: os.NewFile(uintptr(fd), path), shared: local{}}
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

// Open opens an existing regular file. flags is O_RDONLY or O_RDWR. A link, a
// device, a FIFO, a file with a second hard link and a file of another filesystem
// (something mounted over the name) are refused with ErrDamaged; an absent one
// with an error that is os.ErrNotExist.
//
// A file that is replaced while it is being opened is opened anew: the old one is
// nobody's any more.
func (d *Dir) Open(name string, flags int) (*os.File, error) {
	for range 100 {
		var f *os.File
		err := d.shared.current(d, func() (err error) { f, err = d.open(name, flags); return err })
		if err != errReplaced {
			return f, err
		}
	}
	return nil, fault.Errorf(fault.ErrBusy, name, "%s is replaced over and over by something else", d.Join(name))
}

var errReplaced = errors.New("replaced while it was opened")

// open looks before it opens, and opens what it has looked at: opening a device or a
// FIFO can have effects of its own.
func (d *Dir) open(name string, flags int) (*os.File, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Join(name), Err: err}
	}
	seen := os.NewFile(uintptr(fd), d.Join(name))
	defer seen.Close()
	st, err := sys.Fstat(seen)
	if err == nil {
		err = d.acceptable(name, st)
	}
	if err != nil {
		return nil, err
	}
	magic := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := d.still(name, magic); err != nil {
		return nil, err
	}
	// Without O_NONBLOCK: it is a regular file, and Go would poll one that has the flag.
	fd, err = sys.Retry(func() (int, error) { return unix.Open(magic, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Join(name), Err: err}
	}
	return os.NewFile(uintptr(fd), d.Join(name)), nil
}

// still is errReplaced unless the link name of the directory, by which the file at magic
// was opened, is there still: that a file has one hard link says nothing of which. A
// descriptor is of a link, not of the file alone, and the kernel has the link's path now,
// or that it was removed, which it stays (d_path in fs/d_path.c). A removal that has
// uncounted the link but not yet taken it away has the directory locked, and so does one
// who reads the directory (iterate_dir in fs/readdir.c): what was under way is over then.
func (d *Dir) still(name, magic string) error {
	//
	// Whether it can be read does not matter, for that is found out under the lock: a
	// filesystem that has failed may not list what it can still open.
	var entries [512]byte // one fits; Names has a descriptor, and so a position, of its own
	sys.Retry(func() (int, error) { return unix.Getdents(d.Fd(), entries[:]) })
	link, err := os.Readlink(magic)
	if err == nil {
		var here string
		here, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(d.Fd()))
		if err == nil && link != filepath.Join(here, name) {
			return errReplaced
		}
	}
	if errors.Is(err, os.ErrNotExist) { // not of the file, which is open
		return fmt.Errorf("opening %s by %s: is /proc mounted?", d.Join(name), magic)
	}
	return err
}

// Create makes a new regular file with mode 0600, open for reading and writing.
// It is an error (os.ErrExist) if the name is taken.
func (d *Dir) Create(name string) (*os.File, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: d.Join(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Join(name))
	if err := SetMode(f, 0o600); err != nil {
		f.Close()
		d.Remove(name)
		return nil, err
	}
	return f, nil
}

// Stat describes the regular file name, refusing what Open refuses.
func (d *Dir) Stat(name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := d.shared.current(d, func() error {
		d.shared.renew(d, name)
		return sys.Do(func() error { return unix.Fstatat(d.Fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	})
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return &st, d.acceptable(name, &st)
}

// Exists says whether the name is taken, by whatever kind of file.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.Stat(name)
	switch {
	case err == nil, errors.Is(err, fault.ErrDamaged):
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
	return fault.Errorf(fault.ErrDamaged, name, "%s is refused: %s: put the file itself there, or move this away", d.Join(name), why)
}

// Read returns the contents of the regular file name, at most limit bytes; a
// longer file is ErrDamaged.
func (d *Dir) Read(name string, limit int64) (data []byte, err error) {
	err = d.shared.current(d, func() error { data, err = d.read(name, limit); return err })
	return data, err
}

func (d *Dir) read(name string, limit int64) ([]byte, error) {
	f, err := d.Open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := sys.Fstat(f)
	if err != nil {
		return nil, err
	}
	if st.Size > limit {
		return nil, fault.Errorf(fault.ErrDamaged, name, "%s is longer than %d bytes", d.Join(name), limit)
	}
	data := make([]byte, st.Size)
	n, err := io.ReadFull(f, data)
	if err == io.EOF || err == io.ErrUnexpectedEOF { // it was shortened meanwhile
		err = nil
	}
	return data[:n], err
}

// Rename moves from, in d, to the name to, in dst, replacing what is there.
func (d *Dir) Rename(from string, dst *Dir, to string) error {
	rename := func() error { return unix.Renameat(d.Fd(), from, dst.Fd(), to) }
	err := sys.Do(rename)
	if err == unix.EXDEV && dst.adopt(d, from) {
		err = sys.Do(rename)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: d.Join(from), New: dst.Join(to), Err: err}
	}
	return nil
}

// Swap exchanges two existing names atomically (RENAME_EXCHANGE).
func (d *Dir) Swap(from string, dst *Dir, to string) error {
	exchange := func() error { return unix.Renameat2(d.Fd(), from, dst.Fd(), to, unix.RENAME_EXCHANGE) }
	err := sys.Do(exchange)
	if err == unix.EXDEV {
		there, back := dst.adopt(d, from), d.adopt(dst, to)
		if there || back {
			err = sys.Do(exchange)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: d.Join(from), New: dst.Join(to), Err: err}
	}
	return nil
}

// Remove unlinks name; an absent name is no error.
func (d *Dir) Remove(name string) error {
	err := sys.Do(func() error { return unix.Unlinkat(d.Fd(), name, 0) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: d.Join(name), Err: err}
	}
	return nil
}

// Rmdir removes the empty directory name; an absent one is no error.
func (d *Dir) Rmdir(name string) error {
	err := sys.Do(func() error { return unix.Unlinkat(d.Fd(), name, unix.AT_REMOVEDIR) })
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "rmdir", Path: d.Join(name), Err: err}
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

// IsDir says whether name is a directory, without following links. What is not there is none.
func (d *Dir) IsDir(name string) (bool, error) {
	var st unix.Stat_t
	err := sys.Do(func() error { return unix.Fstatat(d.Fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// RemoveFile is Remove for what should be a file of ours. A directory is none and
// stays.
func (d *Dir) RemoveFile(name string) error {
	err := d.Remove(name)
	if errors.Is(err, unix.EISDIR) {
		slog.Warn("a directory with the name of a file of ours stays", "dir", d.Join(name))
		return nil
	}
	return err
}
