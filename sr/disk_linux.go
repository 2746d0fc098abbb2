package sr

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is an open block device: a whole disk, a partition, or what is made of them.
type disk struct {
	f    *os.File // to read
	path string   // its node, whatever name it was opened by
	sys  string   // its directory in sysfs
	dev  uint64
	size int64 // bytes
}

// openDisk opens the block device that a path leads to. What is none is refused
// unopened: opening a FIFO or a tape has effects of its own.
func openDisk(path string) (*disk, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	seen := os.NewFile(uintptr(fd), path)
	defer seen.Close()
	st, err := StatFile(seen)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, Errorf(ErrInvalid, "device", "%s is not a block device: see lsblk", path)
	}
	magic := "/proc/self/fd/" + strconv.Itoa(fd)
	// O_NONBLOCK: a drive without a disk in it says so, and does not wait for one.
	fd, err = retry(func() (int, error) { return unix.Open(magic, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &disk{f: os.NewFile(uintptr(fd), path), dev: st.Rdev}
	d.sys = "/sys/dev/block/" + d.number()
	if d.size, err = d.f.Seek(0, io.SeekEnd); err == nil {
		d.path, err = d.node(path)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// node finds the device's node by the name that the kernel gave it.
func (d *disk) node(path string) (string, error) {
	for line := range strings.Lines(read(d.sys + "/uevent")) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME=")
		var st unix.Stat_t
		if ok && unix.Stat("/dev/"+name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == d.dev {
			return "/dev/" + name, nil
		}
	}
	return filepath.EvalSymlinks(path)
}

func (d *disk) Close() error { return d.f.Close() }

// number is the device's major:minor.
func (d *disk) number() string { return fmt.Sprintf("%d:%d", unix.Major(d.dev), unix.Minor(d.dev)) }

// superblock tells which filesystem the disk carries.
func (d *disk) superblock() (superblock, error) {
	sb, err := readSuperblock(d.f)
	if err != nil {
		err = fmt.Errorf("reading %s: %w", d.path, err)
	}
	return sb, err
}

// holders are the devices that are made of this one: by multipath, md, LVM, dm-crypt.
func (d *disk) holders() (names []string) {
	entries, _ := os.ReadDir(d.sys + "/holders")
	for _, e := range entries {
		name := "/dev/" + e.Name()
		if mapped := strings.TrimSpace(read(d.sys + "/holders/" + e.Name() + "/dm/name")); mapped != "" {
			name = "/dev/mapper/" + mapped
		}
		names = append(names, name)
	}
	return names
}

// mounts are where the disk is mounted.
func (d *disk) mounts() []mountEntry {
	all := parseMountinfo(read("/proc/self/mountinfo"))
	return slices.DeleteFunc(all, func(e mountEntry) bool { return e.device != d.number() && e.source != d.path })
}

// partitions are the names of those that the kernel knows of it.
func (d *disk) partitions() (names []string) {
	found, _ := filepath.Glob(d.sys + "/*/partition")
	for _, path := range found {
		names = append(names, filepath.Base(filepath.Dir(path)))
	}
	return names
}

// claim opens the disk for nobody else to use meanwhile. In use already are disks that
// are mounted, swapped to, or a part of something else.
func (d *disk) claim(flags int) (*os.File, error) {
	var f *os.File
	var users []string
	err := insist(unix.EBUSY, func() error {
		users = nil
		fd, err := unix.Open(d.path, flags|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), d.path)
		if users = DeviceUsers(d.dev); len(users) > 0 {
			f.Close()
			return unix.EBUSY
		}
		return nil
	})
	switch {
	case err == unix.EBUSY && len(users) > 0:
		return nil, Errorf(ErrSRInUse, d.path, "%s is in use by %s: choose another device, or end that", d.path, strings.Join(users, ", "))
	case err == unix.EBUSY:
		return nil, Errorf(ErrSRInUse, d.path, "%s is in use%s: choose another device, or end that", d.path, usedBy(d.path))
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	st, err := StatFile(f)
	if err == nil && st.Rdev != d.dev {
		err = Errorf(ErrBusy, d.path, "%s became another device meanwhile: try again", d.path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// clear overwrites what tells what a disk carries: superblocks, partition tables and
// the labels of volume managers.
func (d *disk) clear() error {
	f, err := d.claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	// Who has a partition open, if not for himself alone, would be asked too late.
	if err := d.rereadPartitions(f); err != nil {
		return err
	}
	if err := zeroEnds(f, d.size, 0, 0); err != nil {
		return err
	}
	return errors.Join(d.rereadPartitions(f), f.Close())
}

// zeroEnds overwrites the ends of a disk, and the copies of a btrfs superblock, the
// beginning last; but not what is from keep on and before end.
func zeroEnds(f *os.File, size, keep, end int64) error {
	zeros := make([]byte, clearEnd)
	zero := func(from, to int64) error {
		if from >= to {
			return nil
		}
		_, err := f.WriteAt(zeros[:to-from], from)
		return err
	}
	begin := min(clearEnd, size)
	if err := zero(max(size-clearEnd, begin), size); err != nil {
		return err
	}
	for _, offset := range btrfsMirrors {
		if offset+superSize <= size {
			if err := zero(offset, offset+superSize); err != nil {
				return err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := errors.Join(zero(end, begin), zero(0, keep)); err != nil {
		return err
	}
	return f.Sync()
}

// rereadPartitions has the kernel know no other partitions than there are. A partition has
// none, and says EINVAL.
func (d *disk) rereadPartitions(f *os.File) error {
	err := insist(unix.EBUSY, func() error { return unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0) })
	switch err {
	case nil, unix.EINVAL:
		return nil
	case unix.EBUSY:
		return Errorf(ErrSRInUse, d.path, "%s is in use: something has one of its partitions open (%s): end that, or choose another device", d.path, strings.Join(d.partitions(), ", "))
	}
	return fmt.Errorf("%s: reading its partition table: %w", d.path, err)
}

// unsign makes a disk that carries a filesystem with that UUID, and nothing else, blank
// again. First of all the filesystem becomes an unfinished one, which nobody attaches and
// SR.create may take, and its superblock goes last: whatever happens in between, it can be
// repeated.
func (d *disk) unsign(uuid string) error {
	f, err := d.claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	sb, err := readSuperblock(f)
	if err != nil {
		return err
	}
	if sb.uuid != uuid {
		return Errorf(ErrSRInUse, d.path, "%s does not carry the filesystem %s any more, and stays as it is", d.path, uuid)
	}
	if offset, value := sb.unfinishedAt(); !sb.unfinished {
		if _, err := f.WriteAt([]byte{value}, offset); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	offset := int64(0)
	if sb.kind == "btrfs" {
		offset = btrfsSuper
	}
	if err := zeroEnds(f, d.size, offset, offset+superSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, superSize), offset); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// disks opens the block devices of this host that are not part of others, one by one.
func disks(yield func(*disk) error) error {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if size := strings.TrimSpace(read("/sys/class/block/" + e.Name() + "/size")); size == "0" || size == "" {
			continue
		}
		d, err := openDisk("/dev/" + strings.ReplaceAll(e.Name(), "!", "/"))
		if err != nil {
			continue // no node, no disk in the drive, no path to it
		}
		err = nil
		if len(d.holders()) == 0 && !d.shadows() {
			err = yield(d)
		}
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// shadows says whether the device is a loop device of another device, which has it all
// as well.
func (d *disk) shadows() bool {
	return strings.HasPrefix(read(d.sys+"/loop/backing_file"), "/dev/")
}

// carriers lists the disks that carry the filesystem with that UUID.
func carriers(uuid string) (paths []string, sb superblock, err error) {
	err = disks(func(d *disk) error {
		found, err := d.superblock()
		if err == nil && found.uuid == uuid && !found.unfinished {
			paths, sb = append(paths, d.path), found
		}
		return nil // one that cannot be read is not it
	})
	slices.Sort(paths)
	return paths, sb, err
}
