package blockdev

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
)

// Disk is an open block device: a whole disk, a partition, or what is made of them.
type Disk struct {
	f    *os.File // to read
	path string   // its node, whatever name it was opened by
	sys  string   // its directory in sysfs
	dev  uint64
	size int64 // bytes
}

// File is the open device. It belongs to the Disk.
func (d *Disk) File() *os.File { return d.f }

// Path is its node, for errors and for programs.
func (d *Disk) Path() string { return d.path }

// Size is how many bytes it has.
func (d *Disk) Size() int64 { return d.size }

// Number is its device number.
func (d *Disk) Number() uint64 { return d.dev }

// Open opens the block device that a path leads to. What is none is refused
// unopened: opening a FIFO or a tape has effects of its own.
func Open(path string) (*Disk, error) {
	fd, err := sys.Retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	seen := os.NewFile(uintptr(fd), path)
	defer seen.Close()
	st, err := sys.Fstat(seen)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, fault.Hint(fault.Errorf(fault.ErrInvalid, "device", "%s is not a block device", path),
			"see lsblk")
	}
	magic := "/proc/self/fd/" + strconv.Itoa(fd)
	// O_NONBLOCK: a drive without a disk in it says so, and does not wait for one.
	fd, err = sys.Retry(func() (int, error) { return unix.Open(magic, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Disk{f: os.NewFile(uintptr(fd), path), dev: st.Rdev}
	d.sys = "/sys/dev/block/" + d.number()
	if d.size, err = d.f.Seek(0, io.SeekEnd); err == nil {
		d.path, err = d.node(path)
	}
	if err == nil && d.size <= 0 {
		err = fault.Errorf(fault.ErrUnsuitable, path, "%s has no size, as a drive without a disk in it", path)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// node finds the device's node by the name that the kernel gave it.
func (d *Disk) node(path string) (string, error) {
	for line := range strings.Lines(sys.Text(d.sys + "/uevent")) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME=")
		var st unix.Stat_t
		if ok && unix.Stat("/dev/"+name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == d.dev {
			return "/dev/" + name, nil
		}
	}
	return filepath.EvalSymlinks(path)
}

// Close closes the device. Its locks go with it.
func (d *Disk) Close() error { return d.f.Close() }

// number is the device's major:minor.
func (d *Disk) number() string { return fmt.Sprintf("%d:%d", unix.Major(d.dev), unix.Minor(d.dev)) }

// ReadSuperblock tells which filesystem the disk carries.
func (d *Disk) ReadSuperblock() (Superblock, error) {
	sb, err := readSuperblock(d.f)
	if err != nil {
		err = fmt.Errorf("reading %s: %w", d.path, err)
	}
	return sb, err
}

// holders are the devices that are made of this one: by multipath, md, LVM, dm-crypt.
func (d *Disk) holders() (names []string) {
	entries, _ := os.ReadDir(d.sys + "/holders")
	for _, e := range entries {
		name := "/dev/" + e.Name()
		if mapped := strings.TrimSpace(sys.Text(d.sys + "/holders/" + e.Name() + "/dm/name")); mapped != "" {
			name = "/dev/mapper/" + mapped
		}
		names = append(names, name)
	}
	return names
}

// Mounts are where the disk is mounted.
func (d *Disk) Mounts() []mountinfo.Entry {
	all := mountinfo.Parse(sys.Text("/proc/self/mountinfo"))
	return slices.DeleteFunc(all, func(e mountinfo.Entry) bool { return e.Device != d.number() && e.Source != d.path })
}

// Partitions are the names of those that the kernel knows of it.
func (d *Disk) Partitions() (names []string) {
	found, _ := filepath.Glob(d.sys + "/*/partition")
	for _, path := range found {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	return names
}

// Number is the number of the block device that a path leads to. It opens none.
func Number(path string) (uint64, error) {
	fd, err := sys.Retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	seen := os.NewFile(uintptr(fd), path)
	defer seen.Close()
	st, err := sys.Fstat(seen)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = fault.Hint(fault.Errorf(fault.ErrInvalid, "device", "%s is not a block device", path),
			"see lsblk")
	}
	if err != nil {
		return 0, err
	}
	return st.Rdev, nil
}
