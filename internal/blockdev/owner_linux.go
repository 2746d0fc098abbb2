package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// A guest chooses what its disk contains: superblocks of the host's own filesystems, if it
// likes. So what a disk contains never says that it is the host's. Whose a disk is follows
// from what the host did with it, and from names, which no guest can choose: a device that
// a domain has is a guest's, a loop device of a volume is, and so is what is made of them.

// OwnerOf says whose disk a device is, if it is not one of the host's own, in words that
// go on "it is …": "" if it is the host's. What cannot be told is nobody's to use: then there
// is an error, ErrOwner and its cause. It asks sysfs, and nothing that could take long; deep
// looks into loop devices as well.
func OwnerOf(dev uint64, deep bool) (string, error) {
	return Owners(deep).Of(dev)
}

// ErrOwner says that whose disk it is could not be found out: then it is nobody's to use.
var ErrOwner = errors.New("nobody knows whose it is")

func unknownOwner(dev uint64, err error) error {
	if errors.Is(err, ErrOwner) {
		return err
	}
	return &told{fmt.Sprintf("whether %s is a disk of this host cannot be told: %v", deviceName(dev), err), []error{ErrOwner, err}}
}

// ownership is OwnerOf of many devices, at one moment.
type ownership struct {
	deep    bool
	known   map[uint64]string
	domains map[uint64]string // that have a device, by its number
}

// Owners begins to ask of many devices whose they are, at one moment; deep looks into loop devices as well.
func Owners(deep bool) *ownership {
	return &ownership{deep, map[uint64]string{}, domainDisks()}
}

func (o *ownership) Of(dev uint64) (string, error) {
	owner, known := o.known[dev]
	if known {
		return owner, nil
	}
	o.known[dev] = "" // it is not made of itself
	owner, err := o.lookUp(dev)
	if err != nil {
		delete(o.known, dev)
		return "", unknownOwner(dev, err)
	}
	o.known[dev] = owner
	return owner, nil
}

func (o *ownership) lookUp(dev uint64) (string, error) {
	if domain := o.domains[dev]; domain != "" {
		return "in use by " + domain, nil
	}
	sysfs, err := filepath.EvalSymlinks(SysOf(dev))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // no block device, or one that has just gone
	}
	if err != nil {
		return "", err
	}
	if owner, err := o.byName(filepath.Base(sysfs), sysfs); err != nil || owner != "" {
		return owner, err
	}
	below, err := madeOf(sysfs)
	if err != nil {
		return "", err
	}
	for _, b := range below {
		if owner, err := o.Of(b); err != nil {
			return "", err
		} else if owner != "" {
			return fmt.Sprintf("made of %s, which is %s", deviceName(b), owner), nil
		}
	}
	return "", nil
}

// byName is what name and kind of a device tell.
func (o *ownership) byName(name, sysfs string) (string, error) {
	switch {
	case strings.HasPrefix(name, "td") && len(name) <= 5:
		return "the disk of a tapdisk, and so of a guest", nil
	case (strings.HasPrefix(name, "xvd") || strings.HasPrefix(name, "nbd")) && ControlDomain():
		return "a guest's disk that is plugged into this domain", nil
	case strings.HasPrefix(name, "drbd"):
		return "a DRBD device, which guests use", nil
	case strings.HasPrefix(name, "dm-"):
		mapped := strings.TrimSpace(sys.Text(sysfs + "/dm/name"))
		if strings.HasPrefix(mapped, "VG_XenStorage-") || strings.Contains(mapped, "-xcp--volume--") {
			return "the volume " + mapped + " of another SR", nil
		}
	case strings.HasPrefix(name, "loop"):
		return o.byFile(sysfs)
	}
	return "", nil
}

// ControlDomain says whether this is a host's dom0, whose virtual disks are its guests'.
func ControlDomain() bool {
	if strings.Contains(sys.Text("/proc/xen/capabilities"), "control_d") {
		return true
	}
	// Where xenfs is not mounted: the hypervisor itself says so (XENFEAT_dom0), and names
	// no domain whose UUID the toolstack has not set.
	if strings.TrimSpace(sys.Text("/sys/hypervisor/type")) != "xen" {
		return false
	}
	features, err := strconv.ParseUint(strings.TrimSpace(sys.Text("/sys/hypervisor/properties/features")), 16, 64)
	return err == nil && features&(1<<11) != 0 || strings.Trim(sys.Text("/sys/hypervisor/uuid"), "0-\n") == ""
}

// madeOf lists what a device is made of: the disk of a partition, the parts of what LVM, md
// or dm-crypt made.
func madeOf(sysfs string) (below []uint64, err error) {
	if _, err := os.Stat(sysfs + "/partition"); err == nil {
		dev, err := ParseNumber(sys.Text(filepath.Dir(sysfs) + "/dev"))
		return []uint64{dev}, err
	}
	entries, err := os.ReadDir(sysfs + "/slaves")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		dev, e := ParseNumber(sys.Text(sysfs + "/slaves/" + e.Name() + "/dev"))
		if e != nil {
			return nil, e
		}
		below = append(below, dev)
	}
	return below, err
}

// ParseNumber reads a device number as sysfs writes it, major:minor.
func ParseNumber(text string) (uint64, error) {
	var major, minor uint32
	if _, err := fmt.Sscanf(text, "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("%q is no number of a device", fault.Shorten(strings.TrimSpace(text)))
	}
	return unix.Mkdev(major, minor), nil
}

// SysOf is the directory of a device in sysfs, by its number.
func SysOf(dev uint64) string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
}

// deviceName is what the kernel calls a device.
func deviceName(dev uint64) string {
	if real, err := filepath.EvalSymlinks(SysOf(dev)); err == nil {
		return "/dev/" + strings.ReplaceAll(filepath.Base(real), "!", "/")
	}
	return fmt.Sprintf("device %d:%d", unix.Major(dev), unix.Minor(dev))
}

// domainDisks are the devices that domains have (drivers/block/xen-blkback/xenbus.c).
func domainDisks() map[uint64]string {
	domains := map[uint64]string{}
	found, _ := filepath.Glob("/sys/bus/xen-backend/devices/*/physical_device")
	for _, path := range found {
		var major, minor uint32
		if n, _ := fmt.Sscanf(sys.Text(path), "%x:%x", &major, &minor); n != 2 {
			continue
		}
		name := filepath.Base(filepath.Dir(path)) // vbd-<domain>-<device>
		if part := strings.Split(name, "-"); len(part) == 3 {
			name = "domain " + part[1]
		}
		domains[unix.Mkdev(major, minor)] = name
	}
	return domains
}

// byFile is what the file behind a loop device tells.
func (o *ownership) byFile(sysfs string) (string, error) {
	data, err := os.ReadFile(sysfs + "/loop/backing_file")
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // it has none
	}
	// Of a path that is too long for sysfs the rest still tells.
	file := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), " (deleted)")
	if err == nil && namedLikeVolume(file) {
		return "the device of the volume " + file, nil
	}
	if !o.deep {
		return "", nil
	}
	info, err := loopStatus(filepath.Base(sysfs))
	if err == unix.ENXIO {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("asking for its file: %w", err)
	}
	if bound := unix.ByteSliceToString(info.File_name[:]); strings.HasPrefix(bound, layout.LoopMark) {
		return "the device of the volume " + strings.TrimPrefix(bound, layout.LoopMark), nil
	}
	if note, err := attached.NoteOfFile(info.Device, info.Inode); err != nil {
		return "", err
	} else if note != nil {
		return "the device of " + note.Volume, nil
	}
	if file != "" {
		dir, base := filepath.Split(file)
		for _, beside := range []string{layout.MarkerFile, layout.TombstoneFile, base + ".inf"} {
			if _, err := os.Lstat(dir + beside); err == nil {
				return fmt.Sprintf("the device of %s, beside which is %s", file, beside), nil
			} else if fault.IsIO(err) {
				return "", err
			}
		}
	}
	if volume, err := attachedVolume(info.Device, info.Inode); err != nil {
		return "", err
	} else if volume != "" {
		return "the device of " + volume, nil
	}
	if file != "" {
		if linked := byLinks(file, info.Device, info.Inode); linked != "" {
			return linked, nil
		}
	}
	// What the file is on; or the device that it is.
	for _, dev := range []uint64{info.Device, info.Rdevice} {
		if dev == 0 {
			continue
		}
		if owner, err := o.Of(dev); err != nil {
			return "", err
		} else if owner != "" {
			return fmt.Sprintf("the device of a file on %s, which is %s", deviceName(dev), owner), nil
		}
	}
	return "", nil
}

// namedLikeVolume says whether a file has the name of a volume's data: of ours, or of
// another SR that keeps disks in files.
func namedLikeVolume(path string) bool {
	for _, part := range strings.Split(filepath.Dir(path), "/") {
		if part == layout.ControlDir {
			return true
		}
	}
	base := strings.TrimSuffix(filepath.Base(path), ".raw")
	return uuids.IsCanonical(strings.ToLower(base))
}

// loopStatus asks a loop device what it is bound to: unix.ENXIO if it is not.
func loopStatus(name string) (*unix.LoopInfo64, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open("/dev/"+name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return unix.IoctlLoopGetStatus64(fd)
}

// attachedVolume finds the file among the volumes of the SRs that are attached here, by
// whatever name it was opened.
func attachedVolume(dev, ino uint64) (string, error) {
	handles, err := attached.Handles()
	if err != nil {
		return "", err
	}
	remote := mountinfo.Remote()
	for _, handle := range handles {
		path, _, err := layout.ParseHandle(handle)
		if err != nil || mountinfo.LeadsTo(path, remote) {
			continue // a loop device of a file on a server's filesystem is no disk of this host
		}
		root, err := dirfs.OpenDir(path)
		if err != nil {
			continue
		}
		volume := fileWith(root, dev, ino)
		root.Close()
		if volume != "" {
			return "volume " + volume + " of SR " + path, nil
		}
	}
	return "", nil
}

// fileWith finds the name that a volume's file has in the directory of an SR.
func fileWith(d *dirfs.Dir, dev, ino uint64) string {
	if st, err := sys.Fstat(d.File()); err != nil || st.Dev != dev {
		return ""
	}
	names, _ := d.Names()
	for _, name := range names {
		if !uuids.IsCanonical(name) {
			continue
		}
		if st, _ := d.Stat(name); st != nil && st.Ino == ino {
			return name
		}
	}
	return ""
}
