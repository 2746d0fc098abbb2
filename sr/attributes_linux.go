package sr

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attributes are what a data file must be given before its first byte.
type Attributes struct {
	// NoCOW is btrfs's nodatacow (chattr +C): overwritten in place while not
	// shared, without checksums. Files with and without cannot share blocks.
	NoCOW bool
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	pad                                           [8]byte
}

const (
	fsIocFsgetxattr    = 0x801c581f // FS_IOC_FSGETXATTR
	fsIocFssetxattr    = 0x401c5820 // FS_IOC_FSSETXATTR
	fsXflagCowextsize  = 0x00010000 // FS_XFLAG_COWEXTSIZE
	fsImmutableFl      = 0x00000010 // FS_IMMUTABLE_FL
	fsAppendFl         = 0x00000020 // FS_APPEND_FL
	fsNocowFl          = 0x00800000 // FS_NOCOW_FL
	fsComprFl          = 0x00000004 // FS_COMPR_FL
	cowExtentHintBytes = 4096
)

// AttributesOf reads the attributes of an existing data file.
func AttributesOf(f *os.File) (Attributes, error) {
	fs, err := kindOf(f)
	if err != nil || fs != "btrfs" {
		return Attributes{}, err
	}
	flags, err := retry(func() (uint32, error) { return unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) })
	if err != nil {
		return Attributes{}, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return Attributes{NoCOW: flags&fsNocowFl != 0}, nil
}

// Immutable says whether the file has an attribute that keeps it from being
// removed (chattr +i, +a).
func Immutable(f *os.File) (bool, error) {
	flags, err := retry(func() (uint32, error) { return unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) })
	if err == unix.ENOTTY || err == unix.EOPNOTSUPP {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return flags&(fsImmutableFl|fsAppendFl) != 0, nil
}

// Apply gives an empty data file its attributes: on btrfs nodatacow or not,
// whatever the directory would have it inherit; on XFS a copy-on-write extent hint
// of one block, because with the default hint 16 MB written after a snapshot
// occupy 300 MB more.
func (a Attributes) Apply(f *os.File) error {
	fs, err := kindOf(f)
	if err != nil {
		return err
	}
	switch fs {
	case "btrfs":
		flags, err := retry(func() (uint32, error) { return unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) })
		if err != nil {
			return fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
		}
		want := flags &^ fsNocowFl
		if a.NoCOW {
			// +C and compression exclude each other.
			want = want&^fsComprFl | fsNocowFl
		}
		if want == flags {
			return nil
		}
		err = retry0(func() error { return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(want)) })
		if err != nil {
			return fmt.Errorf("%s: setting nodatacow=%v: %w", f.Name(), a.NoCOW, err)
		}
		return nil
	case "xfs":
		return LimitCOWExtents(f)
	}
	return nil
}

// LimitCOWExtents sets XFS's copy-on-write extent hint of a file to one block, if
// it is not so already. On other filesystems it does nothing.
func LimitCOWExtents(f *os.File) error {
	var x fsxattr
	if limited, err := cowExtents(f, &x); err != nil || limited {
		return err
	}
	x.xflags |= fsXflagCowextsize
	x.cowextsize = cowExtentHintBytes
	if err := ioctl(f, fsIocFssetxattr, unsafe.Pointer(&x)); err != nil {
		return fmt.Errorf("%s: setting the copy-on-write extent hint: %w", f.Name(), err)
	}
	return nil
}

// COWExtentsLimited says whether LimitCOWExtents has nothing to do.
func COWExtentsLimited(f *os.File) (bool, error) {
	return cowExtents(f, new(fsxattr))
}

func cowExtents(f *os.File, x *fsxattr) (limited bool, err error) {
	if fs, err := kindOf(f); err != nil || fs != "xfs" {
		return true, err
	}
	if err := ioctl(f, fsIocFsgetxattr, unsafe.Pointer(x)); err != nil {
		return false, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return x.xflags&fsXflagCowextsize != 0 && x.cowextsize == cowExtentHintBytes, nil
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	return retry0(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		if errno != 0 {
			return errno
		}
		return nil
	})
}
