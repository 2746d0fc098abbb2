package blockdev

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

// Sysfs is its directory there.
func (d *Disk) Sysfs() string { return d.sys }

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
		return nil, fault.Errorf(fault.ErrInvalid, "device", "%s is not a block device: see lsblk", path)
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

// Claim opens the disk for nobody else to use meanwhile. In use already are disks that
// are mounted, swapped to, or a part of something else.
func (d *Disk) Claim(flags int) (*os.File, error) {
	owner, err := OwnerOf(d.dev, true)
	if err != nil {
		return nil, err
	}
	if owner != "" {
		return nil, NotOurs(d.path, owner)
	}
	return d.ClaimAny(flags)
}

// ClaimAny is claim, whosever disk it is.
func (d *Disk) ClaimAny(flags int) (*os.File, error) {
	var f *os.File
	var users []string
	err := sys.Insist(unix.EBUSY, func() error {
		users = nil
		fd, err := unix.Open(d.path, flags|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), d.path)
		if users = Users(d.dev); len(users) > 0 {
			f.Close()
			return unix.EBUSY
		}
		return nil
	})
	switch {
	case err == unix.EBUSY && len(users) > 0:
		return nil, fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use by %s: choose another device, or end that", d.path, strings.Join(users, ", "))
	case err == unix.EBUSY:
		return nil, fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use%s: choose another device, or end that", d.path, UsedBy(d.path))
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	st, err := sys.Fstat(f)
	if err == nil && st.Rdev != d.dev {
		err = fault.Errorf(fault.ErrBusy, d.path, "%s became another device meanwhile: try again", d.path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Clear overwrites what tells what a disk carries: superblocks, partition tables and
// the labels of volume managers; of a disk that is still the same once it is claimed.
func (d *Disk) Clear(same func() error) error {
	f, err := d.Claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.FreeByOverlaps(); err != nil {
		return err
	}
	if err := same(); err != nil {
		return err
	}
	// Who has a partition open, if not for himself alone, would be asked too late.
	if err := d.rereadPartitions(f); err != nil {
		return err
	}
	if err := zeroEnds(f, d.size, 0, 0); err != nil {
		return err
	}
	return errors.Join(d.rereadPartitions(f), f.Close())
}

// FreeByAllPaths refuses a disk that is in use by another name: the kernel takes two paths
// to one disk for two.
func (d *Disk) FreeByAllPaths() error {
	same, err := d.identity()
	if err != nil || same == "" {
		return err
	}
	others, err := otherPaths(same, d.dev)
	if err != nil {
		return err
	}
	for _, path := range others {
		inUse := func(err error) error {
			return fault.Errorf(fault.ErrSRInUse, d.path, "%s is the same disk as %s (%s): %v", d.path, path, fault.Shorten(same), err)
		}
		if _, err := LookAt("disk", path, lookTimeout); IsShortage(err) {
			return err
		} else if err != nil {
			return inUse(err) // it may be
		}
		other, err := Open(path)
		if err != nil {
			return inUse(err)
		}
		claimed, err := other.Claim(unix.O_RDONLY)
		other.Close()
		if err != nil {
			return inUse(err)
		}
		claimed.Close()
	}
	return nil
}

// NotOurs refuses the disk of a guest.
func NotOurs(path, owner string) error {
	return fault.Errorf(fault.ErrSRInUse, path, "%s is no disk of this host: it is %s: choose another device", path, owner)
}

// zeroEnds overwrites the ends of a disk, and the copies of its superblock, the
// beginning last; but not what is from keep on and before end.
func zeroEnds(f *os.File, size, keep, end int64) error {
	zeros := make([]byte, ClearEnd)
	zero := func(from, to int64) error {
		if from >= to {
			return nil
		}
		_, err := f.WriteAt(zeros[:to-from], from)
		return err
	}
	if err := eraseSeconds(f, size); err != nil {
		return err
	}
	begin := min(ClearEnd, size)
	if err := zero(max(size-ClearEnd, begin), size); err != nil {
		return err
	}
	for _, offset := range BtrfsMirrors {
		if offset+SuperSize <= size {
			if err := zero(offset, offset+SuperSize); err != nil {
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
func (d *Disk) rereadPartitions(f *os.File) error {
	err := sys.Insist(unix.EBUSY, func() error { return unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0) })
	switch err {
	case nil, unix.EINVAL:
		return nil
	case unix.EBUSY:
		return fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use: something has one of its partitions open (%s): end that, or choose another device", d.path, strings.Join(d.Partitions(), ", "))
	}
	return fmt.Errorf("%s: reading its partition table: %w", d.path, err)
}

// Unfinish makes the filesystem with that UUID, which has nothing in it, an unfinished one:
// nobody attaches that, and SR.create may take it.
func (d *Disk) Unfinish(uuid string) error { return d.end(uuid, false) }

// Unsign makes a disk that carries a filesystem with that UUID, and nothing else, blank
// again. The filesystem is an unfinished one first, and its superblock goes last: whatever
// happens in between, it can be repeated.
func (d *Disk) Unsign(uuid string) error { return d.end(uuid, true) }

func (d *Disk) end(uuid string, all bool) error {
	f, err := d.Claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.FreeByOverlaps(); err != nil {
		return err
	}
	sb, err := readSuperblock(f)
	if err != nil {
		return err
	}
	if sb.UUID != uuid {
		return fault.Errorf(fault.ErrSRInUse, d.path, "%s does not carry the filesystem %s any more, and stays as it is", d.path, uuid)
	}
	if offset, value := sb.unfinishedAt(); !sb.Unfinished {
		if _, err := f.WriteAt([]byte{value}, offset); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if !all {
		return f.Close()
	}
	offset := int64(0)
	if sb.Kind == "btrfs" {
		offset = BtrfsSuper
	}
	if err := zeroEnds(f, d.size, offset, offset+SuperSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, SuperSize), offset); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// hostDisks lists the block devices of this host that are not part of others, and not a
// guest's as far as their names tell. It opens none.
func hostDisks() (nodes []string, err error) {
	nodes, err = blockDevices()
	return slices.DeleteFunc(nodes, IsHeld), err
}

// IsHeld says whether something is made of the device: that has all that is on it.
func IsHeld(node string) bool {
	holders, err := os.ReadDir("/sys/class/block/" + SysName(node) + "/holders")
	return err == nil && len(holders) > 0
}

// SysName is the name that the kernel gives to the device of a node.
func SysName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "!")
}

// discDrive matches drives whose discs nobody makes an SR on, and that take long to say that
// there is none.
func discDrive(name string) bool {
	number := strings.TrimPrefix(strings.TrimPrefix(name, "fd"), "sr")
	_, err := strconv.Atoi(number)
	return number != name && err == nil
}

// blockDevices lists those that have a size, but not what is a guest's by its name.
func blockDevices() (nodes []string, err error) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	o := Owners(false)
	for _, e := range entries {
		sysfs := "/sys/class/block/" + e.Name()
		if size := strings.TrimSpace(sys.Text(sysfs + "/size")); size == "0" || size == "" || discDrive(e.Name()) {
			continue
		}
		dev, err := ParseNumber(sys.Text(sysfs + "/dev"))
		if err != nil {
			continue
		}
		if owner, err := o.Of(dev); err != nil || owner != "" {
			continue
		}
		nodes = append(nodes, "/dev/"+strings.ReplaceAll(e.Name(), "!", "/"))
	}
	return nodes, nil
}

// lookAtDisk looks at a block device, and not into it if it is a guest's.
func lookAtDisk(path string) (l Look, err error) {
	dev, err := Number(path)
	if err != nil {
		return l, err
	}
	l.Path, l.Dev = path, dev
	if l.Owner, err = OwnerOf(dev, true); err != nil || l.Owner != "" {
		return l, err
	}
	d, err := Open(path)
	if err != nil {
		return l, err
	}
	defer d.Close()
	l.Path, l.Dev, l.Size = d.path, d.dev, d.size
	d.DropCache()
	if l.Blocks, err = ReadSuperblocks(d.f); err != nil {
		return l, fmt.Errorf("reading %s: %w", d.path, err)
	}
	if l.Member, err = d.member(); err != nil {
		return l, err
	}
	if l.Same, err = d.identity(); err != nil {
		return l, err
	}
	if l.Super = l.Blocks.Parse(); l.Super == (Superblock{}) {
		l.Blank = d.looksBlank()
	}
	return l, nil
}

// DropCache has the kernel read superblocks anew, not tell what it remembers: the disk may have
// been written to by another path, or by a filesystem, since.
func (d *Disk) DropCache() {
	for _, offset := range append([]int64{0, BtrfsSuper}, BtrfsMirrors...) {
		unix.Fadvise(int(d.f.Fd()), offset, SuperSize, unix.FADV_DONTNEED)
	}
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
		err = fault.Errorf(fault.ErrInvalid, "device", "%s is not a block device: see lsblk", path)
	}
	if err != nil {
		return 0, err
	}
	return st.Rdev, nil
}

// member says of what a disk is a part that shows at its beginning what the whole would
// show: half of a mirror of md or drbd, which keep what they know at the end, and a loop
// device of all of another device. Mounted alone the halves would part.
func (d *Disk) member() (string, error) {
	for _, m := range []struct {
		at, offset int64
		magic      []string
		what       string
	}{
		{d.size&^(64<<10-1) - 64<<10, 0, []string{"\xfc\x4e\x2b\xa9", "\xa9\x2b\x4e\xfc"}, "a part of an md array that does not run"},
		{(d.size/512 - 16) &^ 7 * 512, 0, []string{"\xfc\x4e\x2b\xa9"}, "a part of an md array that does not run"},
		{d.size&^4095 - 4096, 60, []string{"\x83\x74\x02\x6b"}, "a part of a drbd device that does not run"},
		{d.size&^4095 - 4096, 20, []string{"\x83\x74\x02\x6d"}, "a part of a drbd device that does not run"},
	} {
		if m.at <= 0 {
			continue
		}
		magic := make([]byte, 4)
		if _, err := d.f.ReadAt(magic, m.at+m.offset); err != nil {
			return "", fmt.Errorf("reading %s: %w", d.path, err)
		}
		if slices.Contains(m.magic, string(magic)) {
			return m.what, nil
		}
	}
	if info, err := d.Loop(); err != nil {
		return "", err
	} else if info != nil && info.Rdevice != 0 && info.Offset == 0 && info.Sizelimit == 0 {
		return "a loop device of " + deviceName(info.Rdevice), nil
	}
	return "", nil
}

// Loop is how a loop device is bound; nil for what is none.
func (d *Disk) Loop() (*unix.LoopInfo64, error) {
	if _, err := os.Stat(d.sys + "/loop"); err != nil {
		return nil, nil
	}
	info, err := unix.IoctlLoopGetStatus64(int(d.f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%s: asking what it is bound to: %w", d.path, err)
	}
	return info, nil
}

// identity is the same for all devices that are paths to one disk, and for no other: what
// the disk says of itself to whoever asks for its name. "" if it says nothing.
func (d *Disk) identity() (string, error) {
	if info, err := d.Loop(); err != nil {
		return "", err
	} else if info != nil {
		return loopIdentity(info), nil
	}
	return identityOf(d.sys)
}
