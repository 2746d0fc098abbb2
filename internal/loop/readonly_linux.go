package loop

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetReadOnly sets or lifts the block layer's read-only mark (BLKROSET) for
// programs that write to the device; one bound ReadOnly stays so regardless, and is told as always. On
// current kernels the mark stays with the number when the device is detached.
func (d Device) SetReadOnly(ro bool) (always bool, err error) {
	err = d.with(func(f *os.File, info *unix.LoopInfo64) error {
		if always = info.Flags&unix.LO_FLAGS_READ_ONLY != 0; always {
			return nil
		}
		return setReadOnly(f, ro)
	})
	return always, err
}

func setReadOnly(f *os.File, ro bool) error {
	value := int32(0)
	if ro {
		value = 1
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKROSET, uintptr(unsafe.Pointer(&value)))
	if errno != 0 {
		return errno
	}
	return nil
}
