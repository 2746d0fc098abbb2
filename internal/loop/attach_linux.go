package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how a file becomes a device.
type Config struct {
	// File is the file, open for reading, or for reading and writing unless
	// ReadOnly. The caller keeps it and may close it afterwards.
	File     *os.File
	ReadOnly bool // the kernel refuses every write
	// SectorSize is the logical sector size, 512 or 4096 bytes. Left to itself
	// the kernel chooses differently before and after a first snapshot on XFS.
	SectorSize int
	DirectIO   bool   // bypass the page cache of the file
	Name       string // shown by losetup, at most 63 bytes are kept
	// Added is told of a number that is added for the device, because there is none that
	// nobody has used: somebody should remove it some time after. If that is an error, the
	// device has another number. nil: no number is added.
	Added func(number int) error
}

// attempts bounds the search for a free device: between being told of one and
// taking it, others take it (up to 230 times was seen with 32 competitors).
const attempts = 2000

// bindTimeout bounds it as well, where the host is so busy that each attempt takes long.
const bindTimeout = 40 * time.Second

// withoutNode bounds how many numbers may turn out to have no node in /dev.
const withoutNode = 100

// Attach binds the file to a free device.
func Attach(c Config) (Device, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return Device{}, fmt.Errorf("%w: is the loop module loaded? modprobe loop", err)
	}
	defer control.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(c.File.Fd()), &st); err != nil {
		return Device{}, &os.PathError{Op: "stat", Path: c.File.Name(), Err: err}
	}
	deadline, without := time.Now().Add(bindTimeout), 0
	for attempt := 0; attempt < attempts && time.Now().Before(deadline); attempt++ {
		n, added, err := takeNumber(control, c.Added, attempt)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSPC { // of device numbers: no filesystem is full
			return Device{}, errors.New("no free loop device: the kernel has no number left: detach devices that nobody needs (losetup -a)")
		}
		if err != nil {
			return Device{}, fmt.Errorf("no free loop device: %w", err)
		}
		d := Device{n, st.Dev, st.Ino, Instance{Name: filepath.Base(c.File.Name())}}
		taken, err := d.bind(c)
		if err != nil && added {
			removeNumber(control, n) // or others have it
		}
		if errors.Is(err, os.ErrNotExist) {
			if without++; without > withoutNode {
				return Device{}, fmt.Errorf("%s: %w: is devtmpfs mounted at /dev?", d.Path(), err)
			}
		}
		switch {
		case err == nil:
			d.Sequence = sequence(n)
			return d, nil
		case taken:
			// Somebody else took it, or is just taking it down.
			if attempt > 20 {
				time.Sleep(time.Duration(attempt%10) * time.Millisecond)
			}
		default:
			return Device{}, fmt.Errorf("%s: %w", d.Path(), err)
		}
	}
	return Device{}, errors.New("no free loop device: others took every one first; raise max_loop")
}

// AttachAs binds the file to the device of that number, from which another file has been unbound: those who know the device by its number
// keep it. It is an error if somebody else has it meanwhile.
func AttachAs(number int, c Config) (Device, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(c.File.Fd()), &st); err != nil {
		return Device{}, &os.PathError{Op: "stat", Path: c.File.Name(), Err: err}
	}
	d := Device{number, st.Dev, st.Ino, Instance{Name: filepath.Base(c.File.Name())}}
	for attempt := 0; ; attempt++ {
		taken, err := d.bind(c)
		if err == nil {
			d.Sequence = sequence(number)
			return d, nil
		}
		if !taken || attempt == 50 { // udev opens devices for moments
			return Device{}, fmt.Errorf("%s: %w", d.Path(), err)
		}
		if err := addNumber(number, c.Added); err != nil {
			return Device{}, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// bind takes the device, and says whether it failed because somebody else has it.
func (d Device) bind(c Config) (taken bool, err error) {
	f, err := d.open(os.O_RDWR)
	if err != nil {
		// ErrNotExist: somebody has removed the number since the kernel gave it out, or udev has not made its node.
		return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist), err
	}
	defer f.Close()
	if err := removePartitions(f, d.Number); err != nil {
		return errors.Is(err, unix.EBUSY), err
	}
	fd := int(f.Fd())
	var info unix.LoopInfo64
	copy(info.File_name[:len(info.File_name)-1], c.Name)
	if c.ReadOnly {
		info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	config := unix.LoopConfig{Fd: uint32(c.File.Fd()), Size: uint32(c.SectorSize), Info: info} // #nosec G115 -- 512 or 4096
	if c.DirectIO {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	err = unix.IoctlLoopConfigure(fd, &config)
	if err == unix.ENOTTY || err == unix.EINVAL {
		err = bindInSteps(fd, c, &info)
	}
	if err != nil {
		return err == unix.EBUSY || err == unix.ENXIO, err
	}
	if !c.ReadOnly {
		// Somebody's mark on this number may have outlived their device.
		if err := setReadOnly(f, false); err != nil {
			unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
			return false, err
		}
	}
	return false, nil
}

// bindInSteps is for kernels without LOOP_CONFIGURE. The device exists with
// other properties for a moment, but nobody knows of it yet. Read-only follows
// from the file being open for reading only.
func bindInSteps(fd int, c Config, info *unix.LoopInfo64) error {
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, int(c.File.Fd())); err != nil {
		return err
	}
	err := unix.IoctlLoopSetStatus64(fd, info)
	if err == nil {
		err = setSectorSize(fd, c.SectorSize)
	}
	if err == nil {
		dio := 0
		if c.DirectIO {
			dio = 1
		}
		err = unix.IoctlSetInt(fd, unix.LOOP_SET_DIRECT_IO, dio)
		if err == unix.EINVAL {
			// The filesystem cannot; Info tells what came of it.
			err = nil
		}
	}
	if err != nil {
		unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	}
	return err
}

// setSectorSize repeats what the kernel refuses while somebody (udev) has pages of
// the device cached.
func setSectorSize(fd, size int) error {
	for attempt := 0; ; attempt++ {
		err := unix.IoctlSetInt(fd, unix.LOOP_SET_BLOCK_SIZE, size)
		if err != unix.EAGAIN || attempt == 100 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
