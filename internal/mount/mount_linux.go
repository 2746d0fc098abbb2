package mount

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/procs"
	"reflinksr/internal/sys"
)

// Dir is where the filesystems of SRs are mounted that are configured by a device
// or an export: each at the SR's UUID.
const Dir = "/run/sr-mount"

// Point is where the filesystem of the SR with that UUID is mounted.
func Point(uuid string) string { return filepath.Join(Dir, uuid) }

// Spec is what mount(2) is told.
type Spec struct {
	Source string // a device's path, or server:/path
	Kind   string // "xfs", "btrfs" or "nfs4"
	Data   string // options
	Flags  uintptr
}

// topLevel has btrfs show all of itself. Without it a filesystem shows what it is told to
// show by default, which may be one snapshot out of many, or nothing.
const topLevel = "subvolid=5"

// Options joins mount options with those that this kind of filesystem is always given.
func Options(kind string, more ...string) string {
	if kind == "btrfs" {
		more = append([]string{topLevel}, more...)
	}
	return strings.Join(slices.DeleteFunc(more, func(o string) bool { return o == "" }), ",")
}

// Flags are those of every mount: the filesystem holds disks, nothing to be run or to be trusted.
const Flags = unix.MS_NOATIME | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Mount mounts m over the open directory.
func (m Spec) Mount(point *dirfs.Dir) error {
	if m.Kind == "btrfs" {
		forgetGuestDevices()
	}
	target := "/proc/self/fd/" + strconv.Itoa(point.Fd()) // whatever its name leads to by now
	if m.Kind != "nfs4" {
		if err := m.mayMount(); err != nil {
			return err
		}
	}
	err := sys.Insist(unix.EBUSY, func() error { return unix.Mount(m.Source, target, m.Kind, m.Flags, m.Data) })
	switch {
	case err == nil:
		return nil
	case err == unix.ENODEV && m.Kind == "nfs4":
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, m.Source, "%s cannot be mounted: this kernel has no NFS client", m.Source),
			"modprobe nfs, or install the module")
	case err == unix.ENODEV:
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, m.Source, "%s cannot be mounted: this kernel has no %s", m.Source, m.Kind),
			"modprobe %s", m.Kind)
	case err == unix.EBUSY:
		return fault.Errorf(fault.ErrSRInUse, m.Source, "%s cannot be mounted: it is in use%s", m.Source, blockdev.UsedBy(m.Source))
	case err == unix.EINVAL && m.Kind == "xfs":
		if newer := m.tooNew(); newer != nil {
			return newer
		}
	}
	return fmt.Errorf("mounting %s (%s) at %s: %w: the kernel's log tells more", m.Source, m.Kind, point.Path(), err)
}

// mayMount refuses disks that somebody else writes to: what is on them is not what it is
// taken for, and may be chosen to harm. Our own mount writes to its disk as well, and who
// writes beneath that meets nothing worse by another.
func (m Spec) mayMount() error {
	devices := []string{m.Source}
	for _, option := range strings.Split(m.Data, ",") {
		if other, is := strings.CutPrefix(option, "device="); is {
			devices = append(devices, other)
		}
	}
	for _, path := range devices {
		dev, err := blockdev.Number(path)
		if err != nil {
			return err
		}
		if IsMountedForSR(path, dev) {
			continue
		}
		if users := StayingUsers(dev); len(users) > 0 {
			return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is not mounted: it is in use by %s", path, strings.Join(users, ", ")),
				"end that; if it is for a guest, the disk is the guest's")
		}
	}
	return nil
}

// IsMountedForSR says whether a device is mounted where SR.attach mounts it.
func IsMountedForSR(path string, dev uint64) bool {
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	return slices.ContainsFunc(mountinfo.Parse(sys.Text("/proc/self/mountinfo")), func(e mountinfo.Entry) bool {
		return (e.Device == number || e.Source == path) && strings.HasPrefix(e.Path, Dir+"/")
	})
}

// StayingUsers are blockdev.Users, but for those that are soon done, as udev is.
func StayingUsers(dev uint64) (users []string) {
	_ = sys.Insist(unix.EBUSY, func() error {
		if users = blockdev.Users(dev); len(users) > 0 {
			return unix.EBUSY
		}
		return nil
	})
	return users
}

// forgetGuestDevices has btrfs forget the disks of guests that udev has told it of. What a guest
// wrote there may claim to be a disk of the filesystem that is to be mounted, and newer.
func forgetGuestDevices() {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return // then nobody has told it of any
	}
	defer control.Close()
	entries, _ := os.ReadDir("/sys/class/block")
	o := blockdev.Owners(false)
	for _, e := range entries {
		dev, err := blockdev.ParseNumber(sys.Text("/sys/class/block/" + e.Name() + "/dev"))
		if err != nil {
			continue
		}
		if owner, err := o.Of(dev); err == nil && owner == "" {
			continue
		}
		var args [4096]byte // struct btrfs_ioctl_vol_args: a descriptor, and the path
		copy(args[8:], "/dev/"+strings.ReplaceAll(e.Name(), "!", "/"))
		// Most are unknown to it; Linux before 5.0 knows no such call.
		sys.Ioctl(control, btrfsIocForgetDev, unsafe.Pointer(&args))
	}
}

const btrfsIocForgetDev = 0x50009405 // BTRFS_IOC_FORGET_DEV, linux/btrfs.h

// Unmount unmounts what is mounted at path, if nobody uses it. Never lazily: who
// still had a file open would write to a filesystem that nobody knows to be mounted.
func Unmount(path string) error {
	err := sys.Insist(unix.EBUSY, func() error { return unix.Unmount(path, unix.UMOUNT_NOFOLLOW) })
	if err == unix.EBUSY {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s cannot be unmounted: it is in use by %s", path, users(path)),
			"end that, then try again")
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	return nil
}

// OpenPoint opens the mount point of an SR, made if absent: what is mounted there,
// if something is.
func OpenPoint(uuid string) (*dirfs.Dir, error) {
	run, err := dirfs.OpenDir(filepath.Dir(Dir))
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.Make(filepath.Base(Dir)); err != nil {
		return nil, err
	}
	top, err := dirfs.OpenDir(Dir) // not by Sub: it may be a filesystem of its own
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := top.Make(uuid); err != nil {
		return nil, err
	}
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(top.Fd(), uuid, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("opening the mount point: %w", &os.PathError{Op: "open", Path: top.Join(uuid), Err: err})
	}
	return dirfs.FromFD(fd, top.Join(uuid))
}

// RemovePoint removes it, unless something is mounted there.
//
// Only in the host's namespace: rmdir(2) takes what others have mounted on a directory
// away from under them.
func RemovePoint(uuid string) {
	if err := unix.Rmdir(Point(uuid)); err != nil && err != unix.ENOENT {
		slog.Warn("a mount point stays", "path", Point(uuid), "err", err)
	}
}

// users describes who keeps the filesystem at path from being unmounted. Only the slow
// path asks.
func users(path string) string {
	var found []string
	bound, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range bound {
		if file := strings.TrimSpace(sys.Text(name)); strings.HasPrefix(file, path+"/") {
			found = append(found, fmt.Sprintf("/dev/%s, the device of %s", strings.Split(name, "/")[3], file))
		}
	}
	found = append(found, processesIn(path)...)
	for _, e := range mountinfo.Parse(sys.Text("/proc/self/mountinfo")) {
		if strings.HasPrefix(e.Path, path+"/") {
			found = append(found, "what is mounted at "+e.Path)
		}
	}
	switch {
	case len(found) == 0:
		return "somebody unknown (fuser -vm " + path + ")"
	case len(found) > 3:
		found = append(found[:3], fmt.Sprintf("%d more", len(found)-3))
	}
	return strings.Join(found, ", ")
}

// processesIn describes the processes that have something below path open. It looks at
// names only: a file of a server that is away would not answer.
func processesIn(path string) (found []string) {
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range list {
		pid, _ := strconv.Atoi(filepath.Base(proc))
		links, _ := filepath.Glob(proc + "/fd/*")
		for _, link := range append(links, proc+"/cwd", proc+"/root", proc+"/exe") {
			file, err := os.Readlink(link)
			if err == nil && strings.HasPrefix(file+"/", path+"/") {
				found = append(found, procs.Describe(pid))
				break
			}
		}
	}
	return found
}
