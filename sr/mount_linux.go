package sr

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/procs"
	"reflinksr/internal/sys"
)

// MountDir is where the filesystems of SRs are mounted that are configured by a device
// or an export: each at the SR's UUID.
const MountDir = "/run/sr-mount"

func mountPoint(uuid string) string { return filepath.Join(MountDir, uuid) }

// mountPatience bounds the wait for others that are about to let go: a probe that has the
// filesystem mounted read-only for a moment, a call that has a file open.
const mountPatience = 3 * time.Second

// mountable is what mount(2) is told.
type mountable struct {
	source string // a device's path, or server:/path
	kind   string // "xfs", "btrfs" or "nfs4"
	data   string // options
	flags  uintptr
}

// topLevel has btrfs show all of itself. Without it a filesystem shows what it is told to
// show by default, which may be one snapshot out of many, or nothing.
const topLevel = "subvolid=5"

// options joins mount options with those that this kind of filesystem is always given.
func options(kind string, more ...string) string {
	if kind == "btrfs" {
		more = append([]string{topLevel}, more...)
	}
	return strings.Join(slices.DeleteFunc(more, func(o string) bool { return o == "" }), ",")
}

// ordinary flags: the filesystem holds disks, nothing to be run or to be trusted.
const mountFlags = unix.MS_NOATIME | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mount mounts m over the open directory.
func (m mountable) mount(point *dirfs.Dir) error {
	if m.kind == "btrfs" {
		forgetGuests()
	}
	target := "/proc/self/fd/" + strconv.Itoa(point.Fd()) // whatever its name leads to by now
	if m.kind != "nfs4" {
		if err := m.mayMount(); err != nil {
			return err
		}
	}
	err := insist(unix.EBUSY, func() error { return unix.Mount(m.source, target, m.kind, m.flags, m.data) })
	switch {
	case err == nil:
		return nil
	case err == unix.ENODEV && m.kind == "nfs4":
		return fault.Errorf(fault.ErrUnavailable, m.source, "%s cannot be mounted: this kernel has no NFS client: modprobe nfs, or install the module", m.source)
	case err == unix.ENODEV:
		return fault.Errorf(fault.ErrUnavailable, m.source, "%s cannot be mounted: this kernel has no %s: modprobe %s", m.source, m.kind, m.kind)
	case err == unix.EBUSY:
		return fault.Errorf(fault.ErrSRInUse, m.source, "%s cannot be mounted: it is in use%s", m.source, usedBy(m.source))
	}
	return fmt.Errorf("mounting %s (%s) at %s: %w: the kernel's log tells more", m.source, m.kind, point.Path(), err)
}

// mayMount refuses disks that somebody else writes to: what is on them is not what it is
// taken for, and may be chosen to harm. Our own mount writes to its disk as well, and who
// writes beneath that meets nothing worse by another.
func (m mountable) mayMount() error {
	devices := []string{m.source}
	for _, option := range strings.Split(m.data, ",") {
		if other, is := strings.CutPrefix(option, "device="); is {
			devices = append(devices, other)
		}
	}
	for _, path := range devices {
		dev, err := blockDevice(path)
		if err != nil {
			return err
		}
		if isMountedForSR(path, dev) {
			continue
		}
		if users := stayingUsers(dev); len(users) > 0 {
			return fault.Errorf(fault.ErrSRInUse, path, "%s is not mounted: it is in use by %s: end that; if it is for a guest, the disk is the guest's", path, strings.Join(users, ", "))
		}
	}
	return nil
}

// isMountedForSR says whether a device is mounted where SR.attach mounts it.
func isMountedForSR(path string, dev uint64) bool {
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	return slices.ContainsFunc(parseMountinfo(sys.Text("/proc/self/mountinfo")), func(e mountEntry) bool {
		return (e.device == number || e.source == path) && strings.HasPrefix(e.path, MountDir+"/")
	})
}

// stayingUsers are deviceUsers, but for those that are soon done, as udev is.
func stayingUsers(dev uint64) (users []string) {
	_ = insist(unix.EBUSY, func() error {
		if users = deviceUsers(dev); len(users) > 0 {
			return unix.EBUSY
		}
		return nil
	})
	return users
}

// forgetGuests has btrfs forget the disks of guests that udev has told it of. What a guest
// wrote there may claim to be a disk of the filesystem that is to be mounted, and newer.
func forgetGuests() {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return // then nobody has told it of any
	}
	defer control.Close()
	entries, _ := os.ReadDir("/sys/class/block")
	o := owners(false)
	for _, e := range entries {
		dev, err := deviceNumber(sys.Text("/sys/class/block/" + e.Name() + "/dev"))
		if err != nil {
			continue
		}
		if owner, err := o.of(dev); err == nil && owner == "" {
			continue
		}
		var args [4096]byte // struct btrfs_ioctl_vol_args: a descriptor, and the path
		copy(args[8:], "/dev/"+strings.ReplaceAll(e.Name(), "!", "/"))
		// Most are unknown to it; Linux before 5.0 knows no such call.
		sys.Ioctl(control, btrfsIocForgetDev, unsafe.Pointer(&args))
	}
}

const btrfsIocForgetDev = 0x50009405 // BTRFS_IOC_FORGET_DEV, linux/btrfs.h

// unmountPath unmounts what is mounted at path, if nobody uses it. Never lazily: who
// still had a file open would write to a filesystem that nobody knows to be mounted.
func unmountPath(path string) error {
	err := insist(unix.EBUSY, func() error { return unix.Unmount(path, unix.UMOUNT_NOFOLLOW) })
	if err == unix.EBUSY {
		return fault.Errorf(fault.ErrSRInUse, path, "%s cannot be unmounted: it is in use by %s: end that, then try again", path, users(path))
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	return nil
}

// insist repeats what fails with that errno, for mountPatience.
func insist(errno error, do func() error) error {
	deadline := time.Now().Add(mountPatience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := sys.Do(do)
		if err != errno || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// openMountPoint opens the mount point of an SR, made if absent: what is mounted there,
// if something is.
func openMountPoint(uuid string) (*dirfs.Dir, error) {
	run, err := dirfs.OpenDir(filepath.Dir(MountDir))
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.Make(filepath.Base(MountDir)); err != nil {
		return nil, err
	}
	top, err := dirfs.OpenDir(MountDir) // not by Sub: it may be a filesystem of its own
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

// removeMountPoint removes it, unless something is mounted there.
//
// Only in the host's namespace: rmdir(2) takes what others have mounted on a directory
// away from under them.
func removeMountPoint(uuid string) {
	if err := unix.Rmdir(mountPoint(uuid)); err != nil && err != unix.ENOENT {
		slog.Warn("a mount point stays", "path", mountPoint(uuid), "err", err)
	}
}

// mountEntry is a line of mountinfo.
type mountEntry struct {
	id       string // of the mount
	device   string // major:minor
	path     string
	kind     string
	source   string
	readOnly bool   // the filesystem, not this mount of it alone
	root     string // the directory of the filesystem that is mounted there: "/" is all of it
}

// parseMountinfo reads /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseMountinfo(mountinfo string) []mountEntry {
	var out []mountEntry
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		// Only a blank separates: of all that some call white space the kernel escapes
		// no more than blank, tab, line break and backslash.
		fields, more := strings.Split(left, " "), strings.Split(right, " ")
		if !ok || len(fields) < 6 || len(more) < 2 {
			continue
		}
		if path := unescape(fields[4]); filepath.IsAbs(path) {
			options := more[len(more)-1]
			out = append(out, mountEntry{fields[0], fields[2], path, more[0], unescape(more[1]), options == "ro" || strings.HasPrefix(options, "ro,"), unescape(fields[3])})
		}
	}
	return out
}

// mountsAt lists what is mounted at path, the visible one last.
func mountsAt(path string) ([]mountEntry, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	all := parseMountinfo(string(data))
	return slices.DeleteFunc(all, func(e mountEntry) bool { return e.path != path }), nil
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
	for _, e := range parseMountinfo(sys.Text("/proc/self/mountinfo")) {
		if strings.HasPrefix(e.path, path+"/") {
			found = append(found, "what is mounted at "+e.path)
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

// usedBy says how a device is in use, as far as can be told.
func usedBy(device string) string {
	d, err := openDisk(device)
	if err != nil {
		return ""
	}
	defer d.Close()
	if mounts := d.mounts(); len(mounts) > 0 {
		return ": it is mounted at " + mounts[0].path
	}
	if holders := d.holders(); len(holders) > 0 {
		return " by " + strings.Join(holders, ", ")
	}
	for line := range strings.Lines(sys.Text("/proc/swaps")) {
		if strings.HasPrefix(line, d.path+" ") {
			return " as swap space"
		}
	}
	for _, partition := range d.partitions() {
		if used := usedBy("/dev/" + partition); used != "" {
			return ": /dev/" + partition + " is in use" + used
		}
	}
	return ""
}
