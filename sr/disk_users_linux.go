package sr

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deviceUsers tells of those who can write to a block device without having claimed it, so
// that O_EXCL does not meet them: guests (drivers/block/xen-blkback/xenbus.c opens a disk
// for no holder), and other processes that have it open for writing. Of a partition its
// disk is looked at as well, and of a disk its partitions.
func deviceUsers(rdev uint64) (users []string) {
	devices := related(rdev)
	for dev, domain := range domainDisks() {
		if devices[dev] {
			users = append(users, domain)
		}
	}
	entries, _ := os.ReadDir("/proc")
	remote := remoteMounts()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if writes(pid, devices, remote) {
			users = append(users, fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(read(fmt.Sprintf("/proc/%d/comm", pid)))))
		}
	}
	return users
}

// related are a device, the disk that it is a partition of, and its own partitions.
func related(rdev uint64) map[uint64]bool {
	devices := map[uint64]bool{rdev: true}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(rdev), unix.Minor(rdev))
	paths, _ := filepath.Glob(sys + "/*/partition")
	if _, err := os.Stat(sys + "/partition"); err == nil {
		if real, err := filepath.EvalSymlinks(sys); err == nil {
			paths = append(paths, filepath.Dir(real)+"/partition")
		}
	}
	for _, path := range paths {
		var major, minor uint32
		if n, _ := fmt.Sscanf(read(filepath.Dir(path)+"/dev"), "%d:%d", &major, &minor); n == 2 {
			devices[unix.Mkdev(major, minor)] = true
		}
	}
	return devices
}

// writes says whether a process has one of the devices open for writing.
func writes(pid int, devices map[uint64]bool, remote []string) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	entries, _ := os.ReadDir(dir + "fd")
	for _, e := range entries {
		var st unix.Stat_t
		if file, err := os.Readlink(dir + "fd/" + e.Name()); err != nil || leadsTo(file, remote) {
			continue
		}
		if unix.Stat(dir+"fd/"+e.Name(), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || !devices[st.Rdev] {
			continue
		}
		for line := range strings.Lines(read(dir + "fdinfo/" + e.Name())) {
			flags, ok := strings.CutPrefix(line, "flags:")
			n, err := strconv.ParseUint(strings.TrimSpace(flags), 8, 64)
			if ok && err == nil && n&unix.O_ACCMODE != unix.O_RDONLY {
				return true
			}
		}
	}
	return false
}
