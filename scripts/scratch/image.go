package scratch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/testdata"
)

func imageName(kind string) string { return "images/" + kind + ".tar.gz" }

func shipped(kind string) bool {
	_, err := testdata.Images.Open(imageName(kind))
	return err == nil
}

// unpack writes the shipped image of a kind to path, size bytes long, with an
// identity of its own.
func unpack(kind, path string, size int64) (err error) {
	packed, err := testdata.Images.Open(imageName(kind))
	if err != nil {
		return err
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		return err
	}
	archive := tar.NewReader(z)
	header, err := archive.Next()
	if err != nil {
		return err
	}
	if size < header.Size {
		return fmt.Errorf("the shipped %s image has %d bytes; without mkfs a filesystem cannot be smaller", kind, header.Size)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copySparse(f, archive); err != nil {
		return err
	}
	if kind == "btrfs" {
		if err := renameBtrfs(f); err != nil {
			return err
		}
	}
	return f.Truncate(size)
}

func copySparse(f *os.File, r io.Reader) error {
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, err := f.WriteAt(block[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return f.Truncate(offset)
		default:
			return err
		}
	}
}

// Offsets in btrfs's superblock (struct btrfs_super_block, linux/btrfs_tree.h).
const (
	superSize         = 4096
	superFsid         = 32
	superIncompat     = 188
	superMetadataUUID = 571
	incompatMetaUUID  = 1 << 10 // BTRFS_FEATURE_INCOMPAT_METADATA_UUID
)

// renameBtrfs gives a btrfs image a new UUID: the kernel takes filesystems with
// the same one for parts of one filesystem. The blocks keep the old one, which
// the superblock then names as the metadata's (Linux 5.0; what btrfstune -m does).
func renameBtrfs(f *os.File) error {
	fsid := make([]byte, 16)
	rand.Read(fsid)
	fsid[6], fsid[8] = fsid[6]&0x0f|0x40, fsid[8]&0x3f|0x80
	for _, offset := range []int64{64 << 10, 64 << 20} {
		super := make([]byte, superSize)
		if _, err := f.ReadAt(super, offset); err != nil {
			return err
		}
		copy(super[superMetadataUUID:], super[superFsid:superFsid+16])
		copy(super[superFsid:], fsid)
		incompat := binary.LittleEndian.Uint64(super[superIncompat:])
		binary.LittleEndian.PutUint64(super[superIncompat:], incompat|incompatMetaUUID)
		sum := crc32.Checksum(super[32:], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(super, sum)
		if _, err := f.WriteAt(super, offset); err != nil {
			return err
		}
	}
	return nil
}

const (
	btrfsIocResize  = 0x50009403 // BTRFS_IOC_RESIZE
	xfsIocFsgrowfs  = 0x4010586e // XFS_IOC_FSGROWFSDATA
	xfsIocFsgeomV1  = 0x80705864 // XFS_IOC_FSGEOMETRY_V1
	xfsGeometrySize = 112
)

// growMounted makes a mounted filesystem as large as its device.
func growMounted(kind, dir string, size int64) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	switch kind {
	case "btrfs":
		var args [4096]byte // struct btrfs_ioctl_vol_args: s64 fd, char name[4088]
		copy(args[8:], "max")
		return ioctl(d, btrfsIocResize, unsafe.Pointer(&args))
	case "xfs":
		var geometry [xfsGeometrySize]byte
		if err := ioctl(d, xfsIocFsgeomV1, unsafe.Pointer(&geometry)); err != nil {
			return err
		}
		block := int64(binary.NativeEndian.Uint32(geometry[0:]))
		maxInodes := binary.NativeEndian.Uint32(geometry[28:])
		grow := struct { // struct xfs_growfs_data
			blocks     uint64
			imaxpct, _ uint32
		}{blocks: uint64(size / block), imaxpct: maxInodes}
		return ioctl(d, xfsIocFsgrowfs, unsafe.Pointer(&grow))
	}
	return nil
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}
