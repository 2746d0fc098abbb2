package reflink

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// CloneFile makes the empty file dst share all blocks of src: one FICLONE
// (ioctl_ficlone(2)), a single point in time even while src is being written.
// The result is not durable before dst is fsynced. It never falls back to a copy.
//
// btrfs shares no blocks between a file with checksums and one without, and which of
// the two src is no flag tells if the filesystem was mounted with nodatasum when it was
// made. So it is tried: Attributes.Apply has given dst checksums, and nodatacow is how
// to have none.
func CloneFile(dst, src *os.File) error {
	err := ficlone(dst, src)
	if err == unix.EINVAL {
		if kind, e := sys.KindOf(dst); e == nil && kind == "btrfs" {
			if e := (Attributes{NoCOW: true}).Apply(dst); e != nil {
				return e
			}
			err = ficlone(dst, src)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "FICLONE", Old: src.Name(), New: dst.Name(), Err: Unshared(dst, err)}
	}
	return nil
}

// CloneRange makes the bytes [from, to) of dst share the blocks of src there: one FICLONERANGE
// (ioctl_ficlonerange(2)). Both ends are whole blocks of the filesystem, or the end of src. It is
// one point in time for that range only.
func CloneRange(dst, src *os.File, from, to int64) error {
	err := sys.Do(func() error {
		return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
			Src_fd: int64(src.Fd()), Src_offset: uint64(from), Src_length: uint64(to - from), Dest_offset: uint64(from)}) // #nosec G115 -- offsets in a file
	})
	if err != nil {
		return &os.LinkError{Op: "FICLONERANGE", Old: src.Name(), New: dst.Name(), Err: Unshared(dst, err)}
	}
	return nil
}

func ficlone(dst, src *os.File) error {
	err := sys.Do(func() error { return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) })
	return err
}

// Unshared is the error of a call that should have made two files share blocks, the one
// to be changed being dst, with what it means.
func Unshared(dst *os.File, err error) error {
	why := ""
	switch err {
	case unix.EINVAL:
		switch kind, _ := sys.KindOf(dst); kind {
		case "btrfs":
			why = "btrfs shares no blocks between a file with checksums and one without (nodatacow, nodatasum)"
		case "xfs":
			why = "XFS shares no blocks between its realtime device and the rest (xfs_io -c lsattr: r), nor between a file with DAX (x) and one without"
		}
	case unix.ETXTBSY:
		why = "one of the two is in use as swap space on this host, swapoff it"
	}
	if why == "" {
		return err
	}
	return fmt.Errorf("%s: %w", why, err)
}
