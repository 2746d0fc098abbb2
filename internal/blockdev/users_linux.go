package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
)

// Users tells of those who can write to a block device without having claimed it, so
// that O_EXCL does not meet them: guests (drivers/block/xen-blkback/xenbus.c opens a disk
// for no holder), and other processes that have it open for writing, as tapdisk and qemu
// have for a guest. Of a partition its disk is looked at as well, and of a disk its
// partitions; and what either is made of.
func Users(rdev uint64) (users []string) {
	devices := related(rdev)
	for dev, domain := range domainDisks() {
		if devices[dev] {
			users = append(users, domain)
		}
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		name := strings.TrimSpace(sys.Text(fmt.Sprintf("/proc/%d/comm", pid)))
		if name != "mdmon" && writes(pid, devices) { // that notes how an array is, and is nobody's
			users = append(users, fmt.Sprintf("process %d (%s)", pid, name))
		}
	}
	return users
}

// related are a device, the disk that it is a partition of, and its own partitions; and what
// it is made of.
func related(rdev uint64) map[uint64]bool {
	devices := map[uint64]bool{}
	var add func(dev uint64)
	add = func(dev uint64) {
		if devices[dev] {
			return
		}
		devices[dev] = true
		if sys, err := filepath.EvalSymlinks(SysOf(dev)); err == nil {
			below, _ := madeOf(sys)
			for _, b := range below {
				add(b)
			}
		}
	}
	add(rdev)
	paths, _ := filepath.Glob(SysOf(rdev) + "/*/partition")
	for _, path := range paths {
		if dev, err := ParseNumber(sys.Text(filepath.Dir(path) + "/dev")); err == nil {
			devices[dev] = true
		}
	}
	return devices
}

// writes says whether a process has one of the devices open for writing. What is open may be
// a file of a server that does not answer: what the file is, is asked of no server.
func writes(pid int, devices map[uint64]bool) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	entries, _ := os.ReadDir(dir + "fd")
	var mounts []mountinfo.Entry
	for _, e := range entries {
		mount, writable := openedHow(dir + "fdinfo/" + e.Name())
		if !writable {
			continue
		}
		file, err := os.Readlink(dir + "fd/" + e.Name())
		if err != nil || !strings.HasPrefix(file, "/") {
			continue // a socket, say
		}
		// Linux 5.5 and before ask a server all the same. The process may be in a mount
		// namespace of its own.
		if !strings.HasPrefix(file, "/dev/") {
			if mounts == nil {
				mounts = mountinfo.Parse(sys.Text(dir + "mountinfo"))
			}
			if slices.ContainsFunc(mounts, func(m mountinfo.Entry) bool { return m.ID == mount && mountinfo.IsRemote(m.Kind) }) {
				continue
			}
		}
		var st unix.Statx_t
		err = unix.Statx(unix.AT_FDCWD, dir+"fd/"+e.Name(), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && devices[unix.Mkdev(st.Rdev_major, st.Rdev_minor)] {
			return true
		}
	}
	return false
}

// openedHow reads from a file of /proc/PID/fdinfo by which mount the process has a file, and
// whether it may write.
func openedHow(path string) (mount string, writable bool) {
	for line := range strings.Lines(sys.Text(path)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "mnt_id":
			mount = value
		case "flags":
			n, err := strconv.ParseUint(value, 8, 64)
			writable = err == nil && n&unix.O_ACCMODE != unix.O_RDONLY && n&unix.O_PATH == 0
		}
	}
	return mount, writable
}

// UsedBy says how a device is in use, as far as can be told.
func UsedBy(device string) string {
	d, err := Open(device)
	if err != nil {
		return ""
	}
	defer d.Close()
	if mounts := d.Mounts(); len(mounts) > 0 {
		return ": it is mounted at " + mounts[0].Path
	}
	if holders := d.holders(); len(holders) > 0 {
		return " by " + strings.Join(holders, ", ")
	}
	for line := range strings.Lines(sys.Text("/proc/swaps")) {
		if strings.HasPrefix(line, d.path+" ") {
			return " as swap space"
		}
	}
	for _, partition := range d.Partitions() {
		if used := UsedBy("/dev/" + partition); used != "" {
			return ": /dev/" + partition + " is in use" + used
		}
	}
	return ""
}
