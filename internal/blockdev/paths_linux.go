package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
)

// One disk may have several devices: paths to a LUN, loop devices of a file. The kernel takes
// them for several disks, and what one of them is used for is not seen by the others.

// identityOf is disk.identity of what is no loop device, from sysfs alone: it opens nothing.
func identityOf(sysfs string) (string, error) {
	sysfs, err := filepath.EvalSymlinks(sysfs)
	if err != nil {
		return "", err
	}
	part := ""
	if start := strings.TrimSpace(sys.Text(sysfs + "/start")); start != "" {
		part = fmt.Sprintf(" from %s+%s", start, strings.TrimSpace(sys.Text(sysfs+"/size")))
		sysfs = filepath.Dir(sysfs)
	}
	for _, name := range []string{"/dm/uuid", "/device/wwid", "/wwid", "/serial", "/device/serial", "/device/cid"} {
		if said := strings.TrimSpace(sys.Text(sysfs + name)); said != "" {
			return said + part, nil
		}
	}
	return "", nil
}

func loopIdentity(info *unix.LoopInfo64) string {
	return fmt.Sprintf("file %d:%d from %d+%d", info.Device, info.Inode, info.Offset, info.Sizelimit)
}

// haveInCommon says whether two identities are of one disk, and of parts of it, or all of it,
// that have something in common.
func haveInCommon(a, b string) bool {
	diskA, beginA, endA := extentOf(a)
	diskB, beginB, endB := extentOf(b)
	return diskA == diskB && beginA < endB && beginB < endA
}

func extentOf(identity string) (disk string, begin, end uint64) {
	all := ^uint64(0)
	i := strings.LastIndex(identity, " from ")
	if i < 0 {
		return identity, 0, all
	}
	var length uint64
	if n, err := fmt.Sscanf(identity[i:], " from %d+%d", &begin, &length); n != 2 || err != nil {
		return identity, 0, all
	}
	if length == 0 || length > all-begin {
		return identity[:i], begin, all
	}
	return identity[:i], begin, begin + length
}

// otherPaths lists the devices that are paths to the disk with that identity, or to a part
// of it, whosever they are. What does not say what it is may be one.
func otherPaths(same string, dev uint64) (paths []string, err error) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	var file struct{ dev, ino uint64 }
	isLoop, _ := fmt.Sscanf(same, "file %d:%d", &file.dev, &file.ino)
	var loops []string
	for _, e := range entries {
		sysfs, node := "/sys/class/block/"+e.Name(), "/dev/"+strings.ReplaceAll(e.Name(), "!", "/")
		number, err := ParseNumber(sys.Text(sysfs + "/dev"))
		if err != nil || number == dev {
			continue
		}
		if _, err := os.Stat(sysfs + "/loop"); err == nil {
			loops = append(loops, node)
			continue
		}
		other, err := identityOf(sysfs)
		if err == nil && other != "" && haveInCommon(same, other) && !isPartOf(sysfs, dev) && !isPartOf(SysOf(dev), number) {
			paths = append(paths, node)
		}
	}
	if isLoop != 2 {
		return paths, nil
	}
	loops = slices.DeleteFunc(loops, func(node string) bool { _, is := muteLoops.Load(node); return is })
	for i, answer := range LookAtAll("loop", loops) {
		if errors.Is(answer.Err, ErrMute) {
			muteLoops.Store(loops[i], true)
		}
		switch {
		case IsShortage(answer.Err):
			return nil, answer.Err
		case errors.Is(answer.Err, os.ErrNotExist) && !isBacking(loops[i], file.dev, file.ino):
		// The kernel asks the file, and this one has just answered, by the device that it
		// is compared with: a file that does not is another.
		case answer.Err != nil && !errors.Is(answer.Err, os.ErrNotExist):
		case answer.Err == nil && !haveInCommon(same, answer.Same):
		default:
			paths = append(paths, loops[i])
		}
	}
	return paths, nil
}

// muteLoops are the loop devices that have not answered to this process: each call is one, and
// waits for them once, not for every disk that it looks at.
var muteLoops sync.Map

// isPartOf says whether a device is a partition of that one: not another path to it.
func isPartOf(sysfs string, dev uint64) bool {
	real, err := filepath.EvalSymlinks(sysfs)
	if err != nil {
		return false
	}
	if _, err := os.Stat(real + "/partition"); err != nil {
		return false
	}
	number, err := ParseNumber(sys.Text(filepath.Dir(real) + "/dev"))
	return err == nil && number == dev
}

// isBacking says whether a loop device that has no node here is of that file, by the name
// that the kernel has for it.
func isBacking(node string, dev, ino uint64) bool {
	file := strings.TrimSpace(sys.Text("/sys/class/block/" + SysName(node) + "/loop/backing_file"))
	var st unix.Stat_t
	return file != "" && !mountinfo.LeadsTo(file, mountinfo.Remote()) && unix.Stat(file, &st) == nil && st.Dev == dev && st.Ino == ino
}

// GuestsPath says whose a disk is that is somebody's by another path, in words that go on
// "it is …": "" if it is nobody's. users tells of those who write to a device.
func (l Look) GuestsPath(users func(dev uint64) []string) string {
	if l.Same == "" {
		return ""
	}
	others, err := otherPaths(l.Same, l.Dev)
	if err != nil {
		return "one whose other paths cannot be told: " + err.Error()
	}
	for _, path := range others {
		owner, err := ownerOfPath(path)
		if err != nil {
			return fmt.Sprintf("the same disk as %s: %v", path, err)
		}
		if owner != "" {
			return fmt.Sprintf("the same disk as %s, which is %s", path, owner)
		}
		if dev, err := Number(path); err == nil {
			if users := users(dev); len(users) > 0 {
				return fmt.Sprintf("the same disk as %s, which is in use by %s", path, strings.Join(users, ", "))
			}
		}
	}
	return ""
}

// ownerOfPath is OwnerOf of a device that may not answer. That of a path that is dead is
// still told by sysfs, but not what is behind a loop device.
func ownerOfPath(path string) (string, error) {
	l, err := LookAt("disk", path, lookTimeout)
	if err == nil || strings.HasPrefix(path, "/dev/loop") {
		return l.Owner, err
	}
	dev, err := Number(path)
	if err != nil {
		return "", err
	}
	return OwnerOf(dev, false)
}
