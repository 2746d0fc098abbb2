// Package disk is filesystems whose disk can be looked at, at any moment, as it
// would be after a power cut: each lies on a loop device over an image file on an
// XFS that shares blocks, so the disk at that moment is one FICLONE of the image.
//
// What the filesystem has written to its device is in the image; what it still
// holds in memory is not. That is kinder than a real disk in one way: what was
// written but not flushed survives.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/scripts/scratch"
)

// Shelf is where images are: an XFS with reflink, in a file.
type Shelf struct {
	dir   string // of the mount points
	outer *scratch.FS
}

const (
	shelfSize = 16 << 30 // bytes; sparse
	// Size of the filesystems under test, in bytes: XFS cannot be smaller.
	Size = 320 << 20
)

// mounting is held while a device is bound and not yet held by a mount alone.
var mounting sync.Mutex

// Stop waits until no mount is in the making, and lets none begin: for a process that
// is about to end, and must not leave a device.
func Stop() { mounting.Lock() }

// NewShelf makes a shelf below dir, which must exist.
func NewShelf(dir string) (*Shelf, error) {
	mounting.Lock()
	defer mounting.Unlock()
	outer, err := scratch.Make("xfs", shelfSize, filepath.Join(dir, "shelf"))
	if err != nil {
		return nil, err
	}
	return &Shelf{dir, outer}, nil
}

// Remove removes the shelf with its images.
func (s *Shelf) Remove() error { return s.outer.Remove() }

// Path is where the image of that name is.
func (s *Shelf) Path(name string) string { return filepath.Join(s.outer.Dir, name) }

// Format makes the image name of an empty filesystem of a kind that package scratch
// knows. An image of btrfs has an identity of its own; clones of it share it, and
// only one of them may be mounted at a time.
func (s *Shelf) Format(kind, name string) error {
	mounting.Lock()
	defer mounting.Unlock()
	fs, err := scratch.Make(kind, Size, s.Path(name+".mnt"))
	if err != nil {
		return err
	}
	if err := unix.Unmount(fs.Dir, 0); err != nil {
		return err
	}
	return errors.Join(os.Rename(fs.Dir+".img", s.Path(name)), os.Remove(fs.Dir))
}

// Clone makes the image to what the image from holds now.
func (s *Shelf) Clone(from, to string) error {
	src, err := os.Open(s.Path(from))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(s.Path(to), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return &os.LinkError{Op: "FICLONE", Old: src.Name(), New: dst.Name(), Err: err}
	}
	return nil
}

// Drop removes an image.
func (s *Shelf) Drop(name string) error { return os.Remove(s.Path(name)) }

// Mount is a mounted image.
type Mount struct {
	Kind, Dir string
	name      string // of the image
	shelf     *Shelf
	device    loop.Device
	bell      *os.File // a file outside everything, to ring for a commit
}

// Bell is the name of a file that Commit uses; whoever lists the filesystem's top
// directory will meet it.
const Bell = ".commit"

// Mount mounts an image at dir, which must exist, and recovers its log as after a
// power cut if it was cloned while mounted.
func (s *Shelf) Mount(kind, name, dir string) (*Mount, error) {
	mounting.Lock()
	defer mounting.Unlock()
	f, err := os.OpenFile(s.Path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "srcrash"})
	if err != nil {
		return nil, err
	}
	options := ""
	if kind == "xfs" {
		options = "nouuid" // clones share theirs, and so do the shipped images
	}
	err = scratch.MountDevice(d, dir, kind, unix.MS_NOATIME, options)
	if err != nil {
		return nil, fmt.Errorf("mounting %s: %w", name, err)
	}
	m := &Mount{Kind: kind, Dir: dir, name: name, shelf: s, device: d}
	if m.bell, err = os.OpenFile(filepath.Join(dir, Bell), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, errors.Join(err, m.Unmount())
	}
	return m, nil
}

// Unmount takes the filesystem away.
func (m *Mount) Unmount() error {
	if m.bell != nil {
		m.bell.Close()
	}
	// As long as it is open its number does not become somebody else's: what btrfs is told
	// to forget is ours.
	device, err := os.Open(m.device.Path())
	if err != nil {
		return err
	}
	defer device.Close()
	err = retryBusy(func() error { return unix.Unmount(m.Dir, 0) })
	if err != nil {
		// Something is open below it. It goes when that is closed.
		return errors.Join(fmt.Errorf("unmounting %s: %w", m.Dir, err), unix.Unmount(m.Dir, unix.MNT_DETACH))
	}
	if m.Kind == "btrfs" {
		return retryBusy(func() error { return forget(m.device.Path()) })
	}
	return nil
}

// busyTimeout is how long what is busy is repeated: the kernel lets go of a device, and of
// the file behind it, a little after its last close.
const busyTimeout = 10 * time.Second

func retryBusy(do func() error) error {
	for deadline := time.Now().Add(busyTimeout); ; time.Sleep(5 * time.Millisecond) {
		if err := do(); err != unix.EBUSY || time.Now().After(deadline) {
			return err
		}
	}
}

// Written counts what the filesystem has written to its device, in sectors: while
// it stays the same, so does the image.
func (m *Mount) Written() (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/stat", m.device.Number))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data)) // Documentation/block/stat.rst
	if len(fields) < 7 {
		return 0, fmt.Errorf("%s: %q", m.device.Path(), data)
	}
	return strconv.ParseUint(fields[6], 10, 64)
}

// Cut makes an image of the disk as it is at this moment.
func (m *Mount) Cut(name string) error { return m.shelf.Clone(m.name, name) }

const (
	btrfsIocStartSync = 0x80089418 // BTRFS_IOC_START_SYNC, linux/btrfs.h
	btrfsIocWaitSync  = 0x40089416 // BTRFS_IOC_WAIT_SYNC
	btrfsIocForgetDev = 0x50009405 // BTRFS_IOC_FORGET_DEV
)

// Commit makes the filesystem's metadata durable, but not the data that it holds
// in memory: what a timer of the kernel may do at any moment.
func (m *Mount) Commit() error {
	if m.Kind == "btrfs" {
		// A commit of the running transaction, which does not wait for dirty pages.
		var transaction uint64
		if err := ioctl(m.bell, btrfsIocStartSync, unsafe.Pointer(&transaction)); err != nil {
			return fmt.Errorf("BTRFS_IOC_START_SYNC: %w", err)
		}
		if err := ioctl(m.bell, btrfsIocWaitSync, unsafe.Pointer(&transaction)); err != nil {
			return fmt.Errorf("BTRFS_IOC_WAIT_SYNC: %w", err)
		}
		return nil
	}
	// A log has one order: with the newest change of any file all older changes of
	// metadata become durable.
	if err := unix.Fchmod(int(m.bell.Fd()), 0o644); err != nil {
		return err
	}
	if err := unix.Fchmod(int(m.bell.Fd()), 0o600); err != nil {
		return err
	}
	return m.bell.Sync()
}

// forget makes btrfs forget an unmounted device, so that an older clone of the
// same image can be mounted next.
func forget(device string) error {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	var args [4096]byte // struct btrfs_ioctl_vol_args: s64 fd, char name[4088]
	copy(args[8:], device)
	err = ioctl(control, btrfsIocForgetDev, unsafe.Pointer(&args))
	if err == unix.ENOENT { // it has forgotten already
		return nil
	}
	return err
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// Export copies an image, sparsely, to a file on another filesystem.
func (s *Shelf) Export(name, path string) error {
	src, err := os.Open(s.Path(name))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	for offset := int64(0); ; {
		begin, err := unix.Seek(int(src.Fd()), offset, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return dst.Truncate(Size)
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(src.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, begin), io.NewSectionReader(src, begin, end-begin)); err != nil {
			return err
		}
		offset = end
	}
}
