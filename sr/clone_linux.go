package sr

import (
	"os"

	"golang.org/x/sys/unix"
)

// CloneFile makes the empty file dst share all blocks of src: one FICLONE
// (ioctl_ficlone(2)), a single point in time even while src is being written.
// The result is not durable before dst is fsynced. It never falls back to a copy.
func CloneFile(dst, src *os.File) error {
	err := retry0(func() error { return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) })
	if err != nil {
		return &os.LinkError{Op: "FICLONE", Old: src.Name(), New: dst.Name(), Err: err}
	}
	return nil
}
