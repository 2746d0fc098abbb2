// Package loop turns an open file into a block device and back, by ioctl.
//
// It is a leaf: it knows the kernel's loop driver (drivers/block/loop.c,
// loop(4)) and nothing of volumes. Both the current interface (LOOP_CONFIGURE,
// Linux 5.8) and the older one of several steps (Linux 4.19, XCP-ng 8.3) are used.
//
// A device is found by the file behind it, (device, inode), never by path text.
package loop

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Device is one loop device, /dev/loopN, bound to the file with a device and inode
// number. Everything done to it is done only while it is bound to that file: the
// kernel gives a number that is free to the next who asks.
type Device struct {
	Number   int
	Dev, Ino uint64
	Instance
}

// Instance tells a device from others that have its number at other times. It counts where
// the file cannot be looked at any more, because its filesystem has died: the device must
// be let go of all the same.
type Instance struct {
	Sequence uint64 `json:"sequence,omitempty"` // the kernel's, never given twice (diskseq, Linux 5.15); 0: not known
	Name     string `json:"name,omitempty"`     // of the file; what counts where there is no sequence
}

// Same says whether two are one number with one file.
func (d Device) Same(o Device) bool { return d.Number == o.Number && d.Dev == o.Dev && d.Ino == o.Ino }

// ErrGone says that the device is not bound to the file any more.
var ErrGone = errors.New("the loop device is bound to its file no more")

// Path is the device's node.
func (d Device) Path() string { return "/dev/loop" + strconv.Itoa(d.Number) }

func (d Device) open(flags int) (*os.File, error) {
	path := d.Path()
	fd, err := openRaw(unix.AT_FDCWD, path, flags)
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Stat(sysDir(d.Number)); e == nil {
			// Without udev or devtmpfs nobody makes the node: loop's major is 7.
			unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(d.Number)))) // #nosec G115 -- the kernel's number
			fd, err = openRaw(unix.AT_FDCWD, path, flags)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// IsThere says whether the device is there still, as it was noted: that very one, bound to its file. Another program's
// that has its number by now is not opened for that. An error says that nobody can tell.
func (d Device) IsThere() (bool, error) {
	if same, err := d.isInstance(); err != nil || !same {
		return false, err
	}
	err := d.with(func(*os.File, *unix.LoopInfo64) error { return nil })
	if errors.Is(err, ErrGone) {
		return false, nil
	}
	return err == nil, err
}

// HasNumber says whether the number still is the device's, by what the kernel tells of it: nothing is opened, so that nobody who
// gives the device back has to wait. An error says that nobody can tell.
func (d Device) HasNumber() (bool, error) { return d.isInstance() }

// UpdateSize makes the device as long as its file is now. The kernel would also
// shrink it.
func (d Device) UpdateSize() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error {
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0)
	})
}

// Flush writes what this host buffered on the device to the file and makes the
// file durable.
func (d Device) Flush() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error { return f.Sync() })
}

// DropCache has whoever reads the device next read its file, of which this host may keep something else while anybody has the
// device open.
func (d Device) DropCache() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error {
		return unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)
	})
}

// with opens the device, makes sure that it is bound to its file, and runs do:
// while it is open its number cannot become another file's. ErrGone if it is not.
func (d Device) with(do func(*os.File, *unix.LoopInfo64) error) error {
	f, err := d.open(os.O_RDONLY)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == unix.ENXIO || err == nil && (info.Device != d.Dev || info.Inode != d.Ino) {
		return ErrGone
	}
	if err == nil {
		err = do(f, info)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Path(), err)
	}
	return nil
}
