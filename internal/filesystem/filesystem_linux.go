package filesystem

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// Identity identifies the filesystem an SR lives on, whatever device it is on
// today and wherever it is mounted.
type Identity struct {
	Type string `json:"type"` // "btrfs", "xfs", …
	// UUID is the filesystem's own UUID; where the kernel tells none, the f_fsid of
	// statfs(2) in hexadecimal, which is the same on all hosts. NFS tells nothing of
	// what is behind it: "", and the marker alone says which SR it is.
	UUID string `json:"uuid"`
}

// Clustered says whether other hosts may have the filesystem mounted as well.
func (fs Identity) Clustered() bool {
	switch fs.Type {
	case "btrfs", "xfs", "ext4", "tmpfs":
		return false
	}
	return true
}

// MapsExtents says whether it can be asked which blocks files share. NFS has no call for
// that.
func (fs Identity) MapsExtents() bool { return fs.Type != "nfs" }

const (
	btrfsIocFsInfo     = 0x8400941f // BTRFS_IOC_FS_INFO, linux/btrfs.h
	xfsIocFsgeometryV1 = 0x80705864 // XFS_IOC_FSGEOMETRY_V1, xfs_fs.h: in every kernel
	xfsFlagReflink     = 1 << 20    // XFS_FSOP_GEOM_FLAGS_REFLINK
)

// xfsGeometry is struct xfs_fsop_geom_v1.
type xfsGeometry struct {
	blocksize uint32
	_         [24]byte
	imax      uint32 // percent of it that may be inodes
	blocks    uint64
	_         [24]byte
	uuid      [16]byte
	_         [12]byte // sunit, swidth, version
	flags     uint32
	_         [12]byte
	padding   [4]byte
}

// Of identifies the filesystem of the directory.
func Of(d *dirfs.Dir) (Identity, error) {
	kind, err := sys.KindOf(d.File())
	if err != nil {
		return Identity{}, err
	}
	fs := Identity{Type: kind}
	switch kind {
	case "btrfs":
		var info [1024]byte // struct btrfs_ioctl_fs_info_args: max_id, num_devices, fsid, …
		if err := sys.Ioctl(d.File(), btrfsIocFsInfo, unsafe.Pointer(&info)); err != nil {
			return fs, fmt.Errorf("%s: asking btrfs for its UUID: %w", d.Path(), err)
		}
		fs.UUID = uuids.UUID(info[16:32]).String()
	case "xfs":
		geo, err := geometryOf(d)
		if err != nil {
			return fs, err
		}
		fs.UUID = uuids.UUID(geo.uuid).String()
	case "nfs":
	default:
		fs.UUID, err = fsid(d)
	}
	return fs, err
}

// Sole refuses, with ErrUnavailable, a filesystem that is mounted from two devices at once
// with the same blocks behind both: btrfs gives the second mount a UUID of its own, until it
// ends (Linux 6.7), and each of the two overwrites what the other has written.
func (fs Identity) Sole(path string) error {
	if fs.Type != "btrfs" {
		return nil
	}
	temporary, err := os.ReadFile("/sys/fs/btrfs/" + fs.UUID + "/temp_fsid")
	if err == nil && strings.TrimSpace(string(temporary)) == "1" {
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, path, "the btrfs at %s has a UUID that ends with its mount (%s): the filesystem of its disk was mounted already, from another device", path, fs.UUID),
			"unmount one of the two at once, check the filesystem with btrfs check, and mount it from one device only")
	}
	return nil // a kernel that knows no such UUIDs refuses the second mount
}

// geometryOf asks XFS for its geometry.
func geometryOf(d *dirfs.Dir) (xfsGeometry, error) {
	var geo xfsGeometry
	if err := sys.Ioctl(d.File(), xfsIocFsgeometryV1, unsafe.Pointer(&geo)); err != nil {
		return geo, fmt.Errorf("%s: asking XFS for its geometry: %w", d.Path(), err)
	}
	return geo, nil
}

// fsid is what every kernel tells: FS_IOC_GETFSUUID is of Linux 6.9, and an SR must not
// seem to be on another filesystem after an update, or on one of two hosts.
func fsid(d *dirfs.Dir) (string, error) {
	st, err := sys.Fstatfs(d.File())
	if err != nil {
		return "", err
	}
	b := *(*[8]byte)(unsafe.Pointer(&st.Fsid))
	return hex.EncodeToString(b[:]), nil
}

const filesystemReadOnly, remountIt = "the SR's filesystem is read-only", "see the kernel's log for the reason, then remount it"

// subvolume is the path of the btrfs subvolume that the directory is in: the nearest above
// that has the inode number of the root of one (BTRFS_FIRST_FREE_OBJECTID).
func subvolume(d *dirfs.Dir) string {
	for path := d.Path(); ; path = filepath.Dir(path) {
		var st unix.Stat_t
		err := sys.Do(func() error { return unix.Stat(path, &st) })
		if err != nil || path == "/" {
			return d.Path()
		}
		if st.Ino == 256 {
			return path
		}
	}
}

// ReadOnly says what keeps the filesystem from being written to, and what to do: "" if
// nothing does.
func ReadOnly(d *dirfs.Dir) (what, remedy string, err error) {
	st, err := sys.Fstatfs(d.File())
	if err != nil {
		return "", "", err
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return filesystemReadOnly, remountIt, nil
	}
	if sys.KindOfMagic(st) != "btrfs" {
		return "", "", nil
	}
	// A subvolume may be so by itself (btrfs_permission in fs/btrfs/inode.c).
	err = sys.Do(func() error { return unix.Faccessat(d.Fd(), ".", unix.W_OK, 0) })
	if err == unix.EROFS {
		return "the btrfs subvolume is read-only", "btrfs property set -t subvol " + subvolume(d) + " ro false", nil
	}
	return "", "", nil
}

// Probe finds out by doing it whether files in the directory that are made as data files
// are, with the attributes a, can share blocks. It leaves nothing behind. The error is
// ErrUnsuitable with the remedy, or the system's own.
func Probe(d *dirfs.Dir, a reflink.Attributes) error {
	if fixed, err := reflink.Immutable(d.File()); err == nil && fixed {
		return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: the directory has an attribute that keeps files from being made, renamed or removed in it", d.Path()),
			"chattr -i -a %s", d.Path())
	}
	src, err := scratch(d)
	if err := d.MayWrite(src, err); err != nil {
		src.Close()
		return err
	}
	defer src.Close()
	dst, err := scratch(d)
	if err != nil {
		return err
	}
	defer dst.Close()
	err = errors.Join(a.Apply(src), a.Apply(dst))
	if err == nil {
		_, err = src.Write(make([]byte, 4096))
	}
	if err == nil {
		err = reflink.CloneFile(dst, src)
	}
	if kind, e := sys.KindOf(d.File()); e == nil && kind == "btrfs" && errors.Is(err, unix.EINVAL) {
		return fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: files that are made as disks are cannot share blocks here: %v", d.Path(), err)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		kind, _ := sys.KindOf(d.File())
		switch kind {
		case "nfs":
			return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: this NFS cannot share blocks between files", d.Path()),
				"mount it with vers=4.2, from a server that exports XFS (mkfs.xfs -m reflink=1) or btrfs")
		case "ocfs2":
			return fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: this OCFS2 was made without reflink: tunefs.ocfs2 --fs-features=refcount", d.Path())
		case "xfs":
			return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: this XFS was made without reflink", d.Path()),
				"make a new one with %s, or use btrfs", mkfsXFS)
		}
		return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: %s cannot share blocks between files", d.Path(), kind),
			"use XFS (%s) or btrfs", mkfsXFS)
	}
	return err
}

// mkfsXFS makes an XFS that shares blocks, and that Linux 4.19 can mount.
const mkfsXFS = "mkfs.xfs -m reflink=1,bigtime=0,inobtcount=0; before xfsprogs 5.10 -m reflink=1"

// scratch makes a file without a name.
func scratch(d *dirfs.Dir) (*os.File, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Openat(d.Fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	})
	if err == nil {
		return os.NewFile(uintptr(fd), d.Path()), nil
	}
	if err != unix.EOPNOTSUPP && err != unix.EISDIR {
		return nil, &os.PathError{Op: "create", Path: d.Path(), Err: err}
	}
	// No O_TMPFILE here (NFS, OCFS2).
	u, err := uuids.Random()
	if err != nil {
		return nil, err
	}
	name := ".reflinksr-probe-" + u.String()
	f, err := d.Create(name)
	if err != nil {
		return nil, err
	}
	if err := d.Remove(name); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// MayShare is Probe without touching the filesystem.
func MayShare(d *dirfs.Dir) bool {
	if kind, err := sys.KindOf(d.File()); err != nil || kind != "xfs" {
		return err == nil
	}
	geo, err := geometryOf(d)
	return err == nil && geo.flags&xfsFlagReflink != 0
}
