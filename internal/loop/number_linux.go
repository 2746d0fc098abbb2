package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A number is given to one device after the other, and what the kernel keeps with it goes
// from one to the next: statistics, partitions that somebody added, settings of its queue.
// So a device of ours gets a number that nobody has used: a free one if there is, else one
// that is added for it, and removed after it.

// maxAdded bounds how many numbers are added for one device, while others take them first.
const maxAdded = 3

// takeNumber finds a free number: one that was never used, if it may be added.
func takeNumber(control *os.File, note func(int) error, attempt int) (n int, added bool, err error) {
	n, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil || note == nil || attempt >= maxAdded || unused(n) {
		return n, false, err
	}
	// -1, the next that there is not
	if fresh, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_ADD, ^uintptr(0)); errno == 0 {
		if note(int(fresh)) == nil { // #nosec G115 -- a device number
			return int(fresh), true, nil // #nosec G115
		}
		removeNumber(control, int(fresh)) // #nosec G115
	}
	return n, false, nil
}

// addNumber adds a number if it is gone: whoever removes those that nobody uses may have met it.
func addNumber(n int, note func(int) error) error {
	if _, err := os.Stat(sysDir(n)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := note(n); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, n); err != unix.EEXIST {
		return err
	}
	return nil
}

// removeNumber removes a number that nobody uses. EBUSY: somebody does.
func removeNumber(control *os.File, n int) error {
	return unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_REMOVE, n)
}

// RemoveNumber removes a number that was added for a device, which is gone. os.ErrNotExist
// if it is gone as well.
//
// Whoever looks for a free number is given the lowest one, and would find it gone a moment
// later: that one stays, and is somebody's next.
func RemoveNumber(n int) error {
	if _, err := os.Stat(sysDir(n)); err != nil {
		return err
	}
	if !lowerIsFree(n) {
		return nil
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	return removeNumber(control, n)
}

func lowerIsFree(number int) bool {
	for n := range number {
		sys := sysDir(n)
		if _, err := os.Stat(sys); err != nil {
			continue
		}
		if _, err := os.Stat(sys + "/loop/backing_file"); errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// unused says whether a number has had no device yet, as far as anybody can see.
func unused(n int) bool {
	stat, err := readText(n, "stat")
	if err != nil || len(partitions(n)) > 0 {
		return false
	}
	for _, count := range strings.Fields(stat) {
		if count != "0" {
			return false
		}
	}
	return true
}

// sequence is the kernel's number of what has the number n now: 0 if it has none (before
// Linux 5.15).
func sequence(n int) uint64 {
	text, err := readText(n, "diskseq")
	if err != nil {
		return 0
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return seq
}

// isInstance says whether the number still is the device's, by what the kernel tells
// without looking at the file.
func (d Device) isInstance() (bool, error) {
	if now := sequence(d.Number); d.Sequence != 0 && now != 0 {
		return now == d.Sequence, nil
	}
	backing, err := readText(d.Number, "loop/backing_file")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	name := filepath.Base(strings.TrimSuffix(backing, deleted))
	return d.Name != "" && name == d.Name, nil
}

// partitions lists the partitions that the kernel knows of a device. Ours never have any:
// somebody added them (addpart, partx).
func partitions(n int) (numbers []int) {
	dir, err := openRaw(unix.AT_FDCWD, sysDir(n), unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer unix.Close(dir)
	names, _ := namesIn(dir, sysDir(n))
	for _, name := range names {
		number, is := strings.CutPrefix(name, "loop"+strconv.Itoa(n)+"p")
		if p, err := strconv.Atoi(number); is && err == nil {
			numbers = append(numbers, p)
		}
	}
	return numbers
}

// blkpgPartition is struct blkpg_partition of linux/blkpg.h.
type blkpgPartition struct {
	start, length int64
	number        int32
	_             [2][64]byte
}

// removePartitions has the kernel forget the partitions of a device: its contents are a
// guest's, and nobody on this host may look into them.
func removePartitions(f *os.File, n int) error {
	for _, p := range partitions(n) {
		part := blkpgPartition{number: int32(p)} // #nosec G115 -- the kernel's
		arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_DEL_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 && errno != unix.ENXIO {
			return fmt.Errorf("removing its partition %d: %w", p, errno)
		}
	}
	return nil
}
