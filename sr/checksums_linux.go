package sr

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// btrfsSearch is struct btrfs_ioctl_search_args (linux/btrfs.h).
type btrfsSearch struct {
	treeID                 uint64 // 0: that of the file's subvolume
	minObject, maxObject   uint64
	minOffset, maxOffset   uint64
	minTransid, maxTransid uint64
	minType, maxType       uint32
	items, _               uint32
	_                      [4]uint64
	buffer                 [3992]byte
}

const (
	btrfsIocTreeSearch  = 0xd0009411 // BTRFS_IOC_TREE_SEARCH
	btrfsSearchHeader   = 32         // struct btrfs_ioctl_search_header
	btrfsInodeItem      = 1          // BTRFS_INODE_ITEM_KEY
	btrfsInodeItemSize  = 160        // struct btrfs_inode_item (linux/btrfs_tree.h)
	btrfsInodeNodatasum = 1 << 0     // BTRFS_INODE_NODATASUM
)

// search reads items of a tree: each has the type and offset of its key, and its contents.
// It needs CAP_SYS_ADMIN.
func (s *btrfsSearch) search(f *os.File, each func(object uint64, kind uint32, offset uint64, item []byte)) error {
	s.maxTransid, s.items = ^uint64(0), ^uint32(0)
	if err := ioctl(f, btrfsIocTreeSearch, unsafe.Pointer(s)); err != nil {
		return err
	}
	for rest, n := s.buffer[:], s.items; n > 0; n-- {
		length := int(binary.NativeEndian.Uint32(rest[28:]))
		each(binary.NativeEndian.Uint64(rest[8:]), binary.NativeEndian.Uint32(rest[24:]), binary.NativeEndian.Uint64(rest[16:]),
			rest[btrfsSearchHeader:][:length])
		rest = rest[btrfsSearchHeader+length:]
	}
	return nil
}

// Unchecked says whether the blocks of a data file on btrfs have no checksums. Without
// nodatacow that is so of what was made while the filesystem was mounted with nodatasum;
// no flag tells, only the file's item in its subvolume's tree. That follows the file when
// a transaction ends: of a file that was made a moment ago the answer is false.
func Unchecked(f *os.File) (bool, error) {
	attrs, err := AttributesOf(f)
	if err != nil || attrs.NoCOW {
		return attrs.NoCOW, err
	}
	if kind, err := kindOf(f); err != nil || kind != "btrfs" {
		return false, err
	}
	st, err := StatFile(f)
	if err != nil {
		return false, err
	}
	unchecked := false
	s := btrfsSearch{minObject: st.Ino, maxObject: st.Ino, maxOffset: ^uint64(0), minType: btrfsInodeItem, maxType: btrfsInodeItem}
	err = s.search(f, func(_ uint64, _ uint32, _ uint64, item []byte) {
		u64 := binary.LittleEndian.Uint64
		size := uint64(st.Size)                                        // #nosec G115 -- not negative
		if len(item) >= btrfsInodeItemSize && u64(item[16:]) == size { // else it is of before
			unchecked = u64(item[64:])&btrfsInodeNodatasum != 0
		}
	})
	if err == unix.EPERM { // not as root
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: reading its item: %w", f.Name(), err)
	}
	return unchecked, nil
}
