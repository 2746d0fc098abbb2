package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// A loop device shows a part of another device, or of a file that others show as well, and
// the kernel takes them for strangers: who claims one is not told that the other is mounted.
// So each device is traced to what it is a stretch of in the end, over loop devices of
// partitions of loop devices, and devices whose stretches overlap are asked for their users
// too.

// stretch is a range of bytes of a disk, or of a file.
type stretch struct {
	of       string // what, in words that are the same for no other
	from, to int64
}

func (s stretch) overlaps(other stretch) bool {
	return s.of == other.of && s.from < other.to && other.from < s.to
}

// stretches traces devices, at one moment.
type stretches struct {
	known map[uint64][]stretch
	loops map[uint64]Look // what is behind the loop devices that are bound
}

// traceDevices asks all loop devices what they are of. What does not answer is found by the
// path of its device; a file that does not answer is none that this disk is made of.
func traceDevices() (*stretches, error) {
	t := &stretches{map[uint64][]stretch{}, map[uint64]Look{}}
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, sysfs := range bound {
		nodes = append(nodes, "/dev/"+filepath.Base(filepath.Dir(sysfs)))
	}
	for i, answer := range LookAtAll("loop", nodes) {
		sysfs := filepath.Dir(bound[i])
		dev, err := ParseNumber(sys.Text(sysfs + "/dev"))
		if err != nil {
			continue // it has gone
		}
		l := answer.Look
		switch {
		case IsShortage(answer.Err):
			return nil, answer.Err
		case answer.Err != nil:
			path := strings.TrimSpace(sys.Text(sysfs + "/loop/backing_file"))
			if !strings.HasPrefix(path, "/dev/") {
				continue
			}
			if l.Rdev, err = Number(path); err != nil {
				continue
			}
			if l.Offset, err = strconv.ParseInt(strings.TrimSpace(sys.Text(sysfs+"/loop/offset")), 10, 64); err != nil {
				continue
			}
		}
		t.loops[dev] = l
	}
	return t, nil
}

// of traces a device.
func (t *stretches) of(dev uint64) []stretch {
	found, known := t.known[dev]
	if !known {
		t.known[dev] = nil // it is not made of itself
		found = t.trace(dev)
		t.known[dev] = found
	}
	return found
}

func (t *stretches) trace(dev uint64) []stretch {
	sysfs, err := filepath.EvalSymlinks(SysOf(dev))
	if err != nil {
		return nil
	}
	size := sectors(sysfs + "/size")
	if size == 0 {
		return nil
	}
	if l, is := t.loops[dev]; is {
		if l.Rdev != 0 {
			return cut(t.of(l.Rdev), l.Offset, size)
		}
		return []stretch{{fmt.Sprintf("file %d:%d", l.Dev, l.Ino), l.Offset, l.Offset + size}}
	}
	below, err := madeOf(sysfs)
	if err == nil && len(below) > 0 {
		if _, err := os.Stat(sysfs + "/partition"); err == nil {
			return cut(t.of(below[0]), sectors(sysfs+"/start"), size)
		}
		// Where its parts are on what it is made of is not asked: it may be all of that.
		var all []stretch
		for _, b := range below {
			all = append(all, t.of(b)...)
		}
		return all
	}
	of := "device " + filepath.Base(sysfs)
	if said, err := (&Disk{dev: dev, sys: sysfs}).identity(); err == nil && said != "" {
		of = "disk " + said // by whatever path
	}
	return []stretch{{of, 0, size}}
}

// cut is a range of bytes of what consists of those stretches. Of several nobody knows in
// which the range is.
func cut(whole []stretch, offset, size int64) []stretch {
	if len(whole) != 1 {
		return whole
	}
	w := whole[0]
	return []stretch{{w.of, min(w.from+offset, w.to), min(w.from+offset+size, w.to)}}
}

// sectors is a number of sectors that sysfs tells, in bytes.
func sectors(path string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(sys.Text(path)), 10, 64)
	return n << 9
}

// overlap is another device that has bytes of this one.
type overlap struct {
	disk   *Disk // not opened
	part   bool  // it has some of this one's bytes, not all
	shares string
}

// overlaps lists the other devices that have bytes of the disk, but for its partitions and
// the disk that it is a partition of: of those the kernel knows.
func (d *Disk) overlaps() (found []overlap, err error) {
	t, err := traceDevices()
	if err != nil {
		return nil, err
	}
	mine, kin := t.of(d.dev), related(d.dev)
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		sysfs := "/sys/class/block/" + e.Name()
		dev, err := ParseNumber(sys.Text(sysfs + "/dev"))
		if err != nil || kin[dev] {
			continue
		}
		theirs := t.of(dev)
		if shares, part := relation(mine, theirs); shares != "" {
			found = append(found, overlap{disk: &Disk{path: deviceName(dev), sys: SysOf(dev), dev: dev}, part: part, shares: shares})
		}
	}
	return found, nil
}

// relation says what a device that consists of the stretches mine is to one that consists of theirs, in words that go on
// with its name: "" if they have no byte in common. part: it has some of the device's bytes, not all.
func relation(mine, theirs []stretch) (shares string, part bool) {
	for _, m := range mine {
		i := slices.IndexFunc(theirs, m.overlaps)
		if i < 0 {
			continue
		}
		switch h := theirs[i]; {
		case h == m:
			return "is the same disk as", false
		case h.from <= m.from && h.to >= m.to:
			return "is a part of", false
		case h.from >= m.from && h.to <= m.to:
			return "contains", true
		}
		return "shares bytes with", true
	}
	return "", false
}

// FreeByOverlaps refuses a disk if a device that has bytes of it is in use.
func (d *Disk) FreeByOverlaps() error {
	found, err := d.overlaps()
	if err != nil {
		return fmt.Errorf("%s: looking for devices that have bytes of it: %w", d.path, err)
	}
	for _, o := range found {
		if use, err := o.disk.use(); err != nil {
			return err
		} else if use != "" {
			return fault.Hint(fault.Errorf(fault.ErrSRInUse, d.path, "%s %s %s, which is in use%s", d.path, o.shares, o.disk.path, use),
				"choose another device, or end that")
		}
	}
	return nil
}

// use tells who uses a device, in words that go on "is in use"; "" if it is nobody.
func (d *Disk) use() (string, error) {
	used := ""
	err := sys.Insist(unix.EBUSY, func() error {
		fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EBUSY {
			if used = UsedBy(d.path); used != "" {
				return nil // those who have it for a moment only are not told by that
			}
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Rdev != d.dev {
			return unix.ENXIO
		}
		return nil
	})
	if err == unix.EBUSY {
		return " by somebody else", nil
	}
	if used != "" {
		return used, nil
	}
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		if _, gone := os.Stat(d.sys + "/loop"); strings.HasPrefix(d.path, "/dev/loop") && gone != nil {
			return "", nil // it was taken away meanwhile
		}
	}
	if err != nil {
		return "", fault.Errorf(fault.ErrUnavailable, d.path, "whether %s is in use cannot be told: %v", d.path, err)
	}
	if users := Users(d.dev); len(users) > 0 {
		return " by " + strings.Join(users, ", "), nil
	}
	return "", nil
}

// Bound says which device is bound to a part of the disk: what that carries does not show
// where the disk's own would be. "" if none is.
func (d *Disk) Bound() (string, error) {
	found, err := d.overlaps()
	if err != nil {
		return "", fmt.Errorf("%s: looking for devices that have bytes of it: %w", d.path, err)
	}
	for _, o := range found {
		if o.part {
			return fmt.Sprintf("what is on %s, which has a part of it", o.disk.path), nil
		}
	}
	return "", nil
}
