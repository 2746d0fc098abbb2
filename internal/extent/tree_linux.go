package extent

import (
	"encoding/binary"
	"os"
	"unsafe"

	"reflinksr/internal/sys"
)

// TreeSearch is struct btrfs_ioctl_search_args (linux/btrfs.h).
type TreeSearch struct {
	TreeID                 uint64 // 0: that of the file's subvolume
	MinObject, MaxObject   uint64
	MinOffset, MaxOffset   uint64
	minTransid, maxTransid uint64
	MinType, MaxType       uint32
	items, _               uint32
	_                      [4]uint64
	buffer                 [3992]byte
}

const (
	btrfsIocTreeSearch = 0xd0009411 // BTRFS_IOC_TREE_SEARCH
	btrfsSearchHeader  = 32         // struct btrfs_ioctl_search_header
)

// Search reads items of a tree: each has the type and offset of its key, and its contents.
// It needs CAP_SYS_ADMIN.
func (s *TreeSearch) Search(f *os.File, each func(object uint64, kind uint32, offset uint64, item []byte)) error {
	s.maxTransid, s.items = ^uint64(0), ^uint32(0)
	if err := sys.Ioctl(f, btrfsIocTreeSearch, unsafe.Pointer(s)); err != nil {
		return err
	}
	items(s.buffer[:], s.items, each)
	return nil
}

// items takes apart what the kernel wrote: n items, each behind its header.
func items(rest []byte, n uint32, each func(object uint64, kind uint32, offset uint64, item []byte)) {
	for ; n > 0; n-- {
		length := int(binary.NativeEndian.Uint32(rest[28:]))
		each(binary.NativeEndian.Uint64(rest[8:]), binary.NativeEndian.Uint32(rest[24:]), binary.NativeEndian.Uint64(rest[16:]),
			rest[btrfsSearchHeader:][:length])
		rest = rest[btrfsSearchHeader+length:]
	}
}
