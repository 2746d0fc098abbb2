package dirfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

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
	d.settle()
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

// settle waits for removals that are under way in the directory.
//
// Whether it can be read does not matter, for that is found out under the lock: a
// filesystem that has failed may not list what it can still open.
func (d *Dir) settle() {
	var entries [512]byte // one fits; Names has a descriptor, and so a position, of its own
	sys.Retry(func() (int, error) { return unix.Getdents(d.Fd(), entries[:]) })
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
	return fault.Hint(fault.Errorf(fault.ErrDamaged, name, "%s is refused: %s", d.Join(name), why),
		"put the file itself there, or move this away")
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
