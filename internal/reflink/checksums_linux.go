package reflink

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/sys"
)

const (
	btrfsInodeItem      = 1      // BTRFS_INODE_ITEM_KEY
	btrfsInodeItemSize  = 160    // struct btrfs_inode_item (linux/btrfs_tree.h)
	btrfsInodeNodatasum = 1 << 0 // BTRFS_INODE_NODATASUM
)

// Unchecked says whether the blocks of a data file on btrfs have no checksums. Without
// nodatacow that is so of what was made while the filesystem was mounted with nodatasum;
// no flag tells, only the file's item in its subvolume's tree. That follows the file when
// a transaction ends: of a file that was made a moment ago the answer is false.
func Unchecked(f *os.File) (bool, error) {
	attrs, err := AttributesOf(f)
	if err != nil || attrs.NoCOW {
		return attrs.NoCOW, err
	}
	if kind, err := sys.KindOf(f); err != nil || kind != "btrfs" {
		return false, err
	}
	st, err := sys.Fstat(f)
	if err != nil {
		return false, err
	}
	unchecked := false
	s := extent.TreeSearch{MinObject: st.Ino, MaxObject: st.Ino, MaxOffset: ^uint64(0), MinType: btrfsInodeItem, MaxType: btrfsInodeItem}
	err = s.Search(f, func(_ uint64, _ uint32, _ uint64, item []byte) {
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
