package reflink

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// Attributes are what a data file must be given before its first byte.
type Attributes struct {
	// NoCOW is btrfs's nodatacow (chattr +C): overwritten in place while not
	// shared, without checksums. Without it a file that is made here has checksums,
	// whatever the filesystem is mounted with.
	NoCOW bool
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	pad                                           [8]byte
}

const (
	iocGetFsxattr        = 0x801c581f // FS_IOC_FSGETXATTR
	iocSetFsxattr        = 0x401c5820 // FS_IOC_FSSETXATTR
	flagRealtime         = 0x00000001 // FS_XFLAG_REALTIME
	flagProjectInherited = 0x00000200 // FS_XFLAG_PROJINHERIT
	flagExtentSize       = 0x00000800 // FS_XFLAG_EXTSIZE
	flagCOWExtentSize    = 0x00010000 // FS_XFLAG_COWEXTSIZE
	flagImmutable        = 0x00000010 // FS_IMMUTABLE_FL
	flagAppend           = 0x00000020 // FS_APPEND_FL
	flagNoCOW            = 0x00800000 // FS_NOCOW_FL
	flagCompressed       = 0x00000004 // FS_COMPR_FL
	flagNotCompressed    = 0x00000400 // FS_NOCOMP_FL
	cowExtentHintBytes   = 4096

	btrfsCompression = "btrfs.compression" // an extended attribute: btrfs property set FILE compression
)

// AttributesOf reads the attributes of an existing data file.
func AttributesOf(f *os.File) (Attributes, error) {
	fs, err := sys.KindOf(f)
	if err != nil || fs != "btrfs" {
		return Attributes{}, err
	}
	flags, err := flagsOf(f)
	return Attributes{NoCOW: flags&flagNoCOW != 0}, err
}

// Immutable says whether the file has an attribute that keeps it from being
// removed (chattr +i, +a).
func Immutable(f *os.File) (bool, error) {
	flags, err := sys.Retry(func() (uint32, error) { return unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) })
	if err == unix.ENOTTY || err == unix.EOPNOTSUPP {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return flags&(flagImmutable|flagAppend) != 0, nil
}

func flagsOf(f *os.File) (uint32, error) {
	flags, err := sys.Retry(func() (uint32, error) { return unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS) })
	if err != nil {
		return 0, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return flags, nil
}

// Apply gives an empty data file its attributes, whatever the directory and the mount
// would have it inherit: on btrfs nodatacow or not; on XFS a copy-on-write extent hint
// of one block, because with the default hint, or a larger hint for all extents, 16 MB
// written after a snapshot occupy 300 MB more.
func (a Attributes) Apply(f *os.File) error {
	fs, err := sys.KindOf(f)
	if err != nil {
		return err
	}
	switch fs {
	case "btrfs":
		return a.applyBtrfs(f)
	case "xfs":
		x, err := readFsxattr(f)
		if err != nil {
			return err
		}
		x.xflags = x.xflags&^(flagRealtime|flagExtentSize) | flagCOWExtentSize
		x.extsize, x.cowextsize = 0, cowExtentHintBytes
		return writeFsxattr(f, &x)
	}
	return nil
}

// applyBtrfs is Apply on btrfs. nodatacow and compression exclude each other, and so do
// their flags, also before and after one call (check_fsflags in fs/btrfs/ioctl.c).
func (a Attributes) applyBtrfs(f *os.File) error {
	flags, err := flagsOf(f)
	if err != nil {
		return err
	}
	set := func(flags uint32) error {
		err := sys.Do(func() error { return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags)) })
		if err != nil {
			return fmt.Errorf("%s: setting nodatacow=%v: %w", f.Name(), a.NoCOW, err)
		}
		return nil
	}
	const compression = flagCompressed | flagNotCompressed
	plain := flags &^ (flagNoCOW | compression)
	if a.NoCOW {
		if flags&compression != 0 {
			if err := set(plain); err != nil {
				return err
			}
		} else if flags&flagNoCOW != 0 {
			return nil
		}
		return set(plain | flagNoCOW)
	}
	// How it is compressed is the directory's business. The flags alone say less than
	// the property does, which goes with them.
	how := make([]byte, 64)
	n, err := sys.Retry(func() (int, error) { return unix.Fgetxattr(int(f.Fd()), btrfsCompression, how) })
	if err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
		return fmt.Errorf("%s: reading %s: %w", f.Name(), btrfsCompression, err)
	}
	// Also where the flags are right: it takes back that a filesystem mounted with
	// nodatasum makes files without checksums, which no flag tells.
	if err := set(plain); err != nil {
		return err
	}
	switch {
	case n > 0:
		err = sys.Do(func() error { return unix.Fsetxattr(int(f.Fd()), btrfsCompression, how[:n], 0) })
		if err != nil {
			return fmt.Errorf("%s: setting %s: %w", f.Name(), btrfsCompression, err)
		}
	case flags&compression != 0:
		return set(plain | flags&compression)
	}
	return nil
}

// LimitCOWExtents sets XFS's copy-on-write extent hint of a file to one block, if
// it is not so already. On other filesystems it does nothing.
func LimitCOWExtents(f *os.File) error {
	x, limited, err := cowExtents(f)
	if err != nil || limited {
		return err
	}
	x.xflags |= flagCOWExtentSize
	x.cowextsize = cowExtentHintBytes
	return writeFsxattr(f, &x)
}

// COWExtentsLimited says whether LimitCOWExtents has nothing to do.
func COWExtentsLimited(f *os.File) (bool, error) {
	_, limited, err := cowExtents(f)
	return limited, err
}

func cowExtents(f *os.File) (x fsxattr, limited bool, err error) {
	if fs, err := sys.KindOf(f); err != nil || fs != "xfs" {
		return x, true, err
	}
	x, err = readFsxattr(f)
	return x, x.xflags&flagCOWExtentSize != 0 && x.cowextsize == cowExtentHintBytes, err
}

// ProjectOf answers the project of a file (for quotas, XFS), and of a directory whether what is made in it
// gets that project as well.
func ProjectOf(f *os.File) (project uint32, inherited bool, err error) {
	x, err := readFsxattr(f)
	return x.projid, x.xflags&flagProjectInherited != 0, err
}

// SetProject gives a file to a project.
func SetProject(f *os.File, project uint32) error {
	x, err := readFsxattr(f)
	if err != nil {
		return err
	}
	x.projid = project
	return writeFsxattr(f, &x)
}

// Extents is how many extents a file has, at once whatever their number (XFS; what is not yet written does not count).
func Extents(f *os.File) (int, error) {
	x, err := readFsxattr(f)
	return int(x.nextents), err
}

func readFsxattr(f *os.File) (x fsxattr, err error) {
	if err := sys.Ioctl(f, iocGetFsxattr, unsafe.Pointer(&x)); err != nil {
		return x, fmt.Errorf("%s: reading attributes: %w", f.Name(), err)
	}
	return x, nil
}

func writeFsxattr(f *os.File, x *fsxattr) error {
	if err := sys.Ioctl(f, iocSetFsxattr, unsafe.Pointer(x)); err != nil {
		return fmt.Errorf("%s: setting attributes: %w", f.Name(), err)
	}
	return nil
}
