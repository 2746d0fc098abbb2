package extent

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"reflinksr/internal/hostinfo"
	"reflinksr/internal/sys"
)

// Item is a piece of a file on btrfs as the tree of its subvolume has it (struct
// btrfs_file_extent_item of linux/btrfs_tree.h): a part of an extent, or all of it. An extent stays
// whole as long as a piece of any file is a part of it. All but Kind is in bytes.
type Item struct {
	Start, Length int64 // in the file
	Disk          int64 // where the extent is
	DiskLength    int64 // what it takes there
	Offset        int64 // of the piece in it, uncompressed
	Whole         int64 // how long it is, uncompressed
	Kind          ItemKind
}

// ItemKind is what the contents of a piece are known by.
type ItemKind uint8

const (
	ItemHole       ItemKind = iota // zeros; there is no extent
	ItemPlain                      // what is at Disk+Offset
	ItemCompressed                 // what comes of all that is at Disk, from Offset on
	ItemUnwritten                  // zeros, with room for data in an extent
	ItemInline                     // what is in the tree; there is no extent
	ItemUnknown                    // encrypted, or encoded in a way of the future
)

// Stored says whether a piece is in an extent.
func (i Item) Stored() bool { return i.Kind != ItemHole && i.Kind != ItemInline }

// treeSearch is struct btrfs_ioctl_search_args_v2 (linux/btrfs.h) with its buffer.
type treeSearch struct {
	treeID                 uint64 // 0: that of the file's subvolume
	minObject, maxObject   uint64
	minOffset, maxOffset   uint64
	minTransid, maxTransid uint64
	minType, maxType       uint32
	items, _               uint32
	_                      [4]uint64
	size                   uint64
	buffer                 [64 << 10]byte
}

const (
	btrfsIocTreeSearchV2 = 0xc0709411 // BTRFS_IOC_TREE_SEARCH_V2
	btrfsExtentData      = 108        // BTRFS_EXTENT_DATA_KEY
	btrfsExtentInline    = 0          // BTRFS_FILE_EXTENT_INLINE
	btrfsExtentRegular   = 1          // BTRFS_FILE_EXTENT_REG
	btrfsExtentPrealloc  = 2          // BTRFS_FILE_EXTENT_PREALLOC
	btrfsExtentItemSize  = 53         // struct btrfs_file_extent_item
)

// Items reads the pieces of a file on btrfs one by one. It needs CAP_SYS_ADMIN.
type Items struct {
	f      *os.File
	ino    uint64
	from   uint64 // where the next search begins
	search *treeSearch
	rest   []byte // of what it has found, not yet read
	count  uint32 // of items in it
}

// NewItems begins with the first piece that starts at or after the offset start, in bytes. An error is no
// more than that the tree cannot be read: the file is not on btrfs, or the caller not privileged.
func NewItems(f *os.File, start int64) (*Items, error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return nil, err
	}
	c := &Items{f: f, ino: st.Ino, from: uint64(start), search: new(treeSearch)} // #nosec G115 -- an offset in a file
	return c, c.fetch()
}

func (c *Items) fetch() error {
	s := c.search
	s.minObject, s.maxObject, s.minType, s.maxType = c.ino, c.ino, btrfsExtentData, btrfsExtentData
	s.minOffset, s.maxOffset, s.maxTransid = c.from, ^uint64(0), ^uint64(0)
	s.items, s.size = ^uint32(0), uint64(len(s.buffer))
	if err := sys.Ioctl(c.f, btrfsIocTreeSearchV2, unsafe.Pointer(s)); err != nil {
		return fmt.Errorf("%s: reading the items of its extents: %w", c.f.Name(), err)
	}
	c.rest, c.count = s.buffer[:], s.items
	return nil
}

// Next answers the next piece; ok is false after the last one. Between two there may be a hole.
func (c *Items) Next() (i Item, ok bool, err error) {
	if c.count == 0 {
		if err := c.fetch(); err != nil || c.count == 0 {
			return i, false, err
		}
	}
	length := int(binary.NativeEndian.Uint32(c.rest[28:]))
	start := binary.NativeEndian.Uint64(c.rest[16:])
	item := c.rest[btrfsSearchHeader:][:length]
	c.rest, c.count, c.from = c.rest[btrfsSearchHeader+length:], c.count-1, start+1
	return itemOf(int64(start), item), true, nil // #nosec G115 -- an offset in a file
}

// itemOf reads an item that begins at an offset of the file.
func itemOf(start int64, item []byte) Item {
	number := func(at int) int64 { return int64(binary.LittleEndian.Uint64(item[at:])) } // #nosec G115 -- of a file
	i := Item{Start: start, Whole: number(8)}
	switch kind := item[20]; {
	case kind == btrfsExtentInline:
		i.Length, i.Kind = i.Whole, ItemInline // in one sector
		return i
	case len(item) < btrfsExtentItemSize || kind != btrfsExtentRegular && kind != btrfsExtentPrealloc:
		i.Length, i.Kind = i.Whole, ItemUnknown
		return i
	}
	i.Disk, i.DiskLength, i.Offset, i.Length = number(21), number(29), number(37), number(45)
	switch {
	case i.Disk == 0:
		i.Kind = ItemHole
	case item[20] == btrfsExtentPrealloc:
		i.Kind = ItemUnwritten
	case item[17] != 0 || binary.LittleEndian.Uint16(item[18:]) != 0:
		i.Kind = ItemUnknown
	case item[16] != 0:
		i.Kind = ItemCompressed
	default:
		i.Kind = ItemPlain
	}
	return i
}

// InTree makes sure that what has been written to a file is in its subvolume's tree, and
// says whether it could. fsync is not enough for that: since Linux 5.10 it waits for the
// blocks to be written, and their items may be inserted after it has returned. FIEMAP
// waits for the items as well (fs/btrfs/fiemap.c), before Linux 6.2 not always.
func InTree(f *os.File) bool { return TreeTells() && AskForOne(f) == nil }

// TreeTells says whether the kernel is one of which InTree is true.
func TreeTells() bool { return hostinfo.ThisKernel().AtLeast(6, 2) }
