package loop

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Info is what the kernel made of a Config, read back.
type Info struct {
	Size       int64 // bytes
	SectorSize int   // bytes
	DirectIO   bool
	ReadOnly   bool
}

// Info asks the kernel what the device with that number is like, whatever file it is bound to: the request does not
// tell, the kernel drops direct I/O silently.
func (d Device) Info() (Info, error) {
	f, err := d.open(os.O_RDONLY)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	fd := int(f.Fd())
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", d.Path(), err)
	}
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		err = errno
	}
	sector, e := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	readOnly, e2 := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err := errors.Join(err, e, e2); err != nil {
		return Info{}, fmt.Errorf("%s: %w", d.Path(), err)
	}
	return Info{Size: int64(size), SectorSize: sector, DirectIO: info.Flags&unix.LO_FLAGS_DIRECT_IO != 0, ReadOnly: readOnly != 0}, nil // #nosec G115 -- of a file: below 2^63
}

// BlockNumber is the kernel's number of the block device (st_rdev).
func (d Device) BlockNumber() (number uint64, err error) {
	err = d.with(func(f *os.File, _ *unix.LoopInfo64) error {
		var st unix.Stat_t
		err := unix.Fstat(int(f.Fd()), &st)
		number = st.Rdev
		return err
	})
	return number, err
}

// Binding is how a device is bound to its file, for good.
type Binding struct {
	ReadOnly          bool
	Offset, SizeLimit int64 // bytes; 0 and 0: the whole file
}

// Binding asks the kernel.
func (d Device) Binding() (b Binding, err error) {
	err = d.with(func(_ *os.File, info *unix.LoopInfo64) error {
		b = Binding{info.Flags&unix.LO_FLAGS_READ_ONLY != 0, int64(info.Offset), int64(info.Sizelimit)} // #nosec G115 -- of a file: below 2^63
		return nil
	})
	return b, err
}
