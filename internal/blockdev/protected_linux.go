package blockdev

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// Writable refuses a disk that is write-protected: it is found out before anything is
// written, not halfway.
func (d *Disk) Writable() error {
	protected, err := unix.IoctlGetInt(int(d.f.Fd()), unix.BLKROGET)
	if err != nil {
		return fmt.Errorf("%s: asking whether it is write-protected: %w", d.path, err)
	}
	if protected != 0 {
		return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.path, "%s is write-protected", d.path),
			"end that (a switch on the disk, or blockdev --setrw), or choose another device")
	}
	return nil
}
