package cbt

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/sys"
)

// treeCursor walks over a whole file on btrfs by the items of its subvolume's tree.
// That is several times as fast as FIEMAP, which finds out of each extent who shares
// it, and it tells compressed blocks apart. What is shared it does not tell.
//
// Whoever makes one has called inTree: what is not there yet has no item. If somebody may
// write to the file meanwhile, that there is no item means nothing: that of what is
// written anew can be gone for a moment before the new one is there, and nothing is locked
// against that.
type treeCursor struct {
	f    *os.File
	ino  uint64
	size int64
	at   int64

	search *treeSearch
	items  []byte // of search, not yet read
	count  uint32 // of items
	ended  bool   // there are no more
	ahead  segment
}

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
	btrfsExtentRegular   = 1          // BTRFS_FILE_EXTENT_REG
	btrfsExtentPrealloc  = 2          // BTRFS_FILE_EXTENT_PREALLOC
	searchHeaderSize     = 32         // struct btrfs_ioctl_search_header
	extentItemSize       = 53         // struct btrfs_file_extent_item (linux/btrfs_tree.h)
)

// inTree makes sure that what has been written to a file is in its subvolume's tree, and
// says whether it could. fsync is not enough for that: since Linux 5.10 it waits for the
// blocks to be written, and their items may be inserted after it has returned. FIEMAP
// waits for the items as well (fs/btrfs/fiemap.c), before Linux 6.2 not always.
func inTree(f *os.File) bool {
	if !hostinfo.ThisKernel().Since(6, 2) {
		return false
	}
	return extent.AskForOne(f) == nil
}

// newTreeCursor needs a file on btrfs and CAP_SYS_ADMIN: an error is no more than that
// there is no such cursor.
func newTreeCursor(f *os.File, size int64) (*treeCursor, error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return nil, err
	}
	c := &treeCursor{f: f, ino: st.Ino, size: size, search: new(treeSearch)}
	return c, c.fetch(0)
}

// fetch reads items that begin at or after a place.
func (c *treeCursor) fetch(offset uint64) error {
	s := c.search
	s.minObject, s.maxObject, s.minType, s.maxType = c.ino, c.ino, btrfsExtentData, btrfsExtentData
	s.minOffset, s.maxOffset, s.maxTransid = offset, ^uint64(0), ^uint64(0)
	s.items, s.size = ^uint32(0), uint64(len(s.buffer))
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, c.f.Fd(), btrfsIocTreeSearchV2, uintptr(unsafe.Pointer(s)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("%s: reading the items of its extents: %w", c.f.Name(), errno)
		}
		c.items, c.count, c.ended = s.buffer[:], s.items, s.items == 0
		return nil
	}
}

func (c *treeCursor) next() (segment, error) {
	if c.at >= c.size {
		return segment{start: c.at, end: endless, what: beyond}, nil
	}
	for !c.ended && c.ahead.end <= c.at {
		if err := c.advance(); err != nil {
			return segment{}, err
		}
	}
	g := segment{start: c.at, end: c.size}
	switch {
	case c.ahead.end <= c.at: // there are no more
	case c.ahead.start > c.at:
		g.end = min(c.ahead.start, c.size)
	default:
		g = c.ahead
		g.start, g.end = c.at, min(g.end, c.size)
	}
	c.at = g.end
	return g, nil
}

// advance makes the next item the one ahead.
func (c *treeCursor) advance() error {
	if c.count == 0 {
		return c.fetch(uint64(c.ahead.start) + 1) // #nosec G115 -- an offset in a file
	}
	u64 := binary.LittleEndian.Uint64
	length := int(binary.NativeEndian.Uint32(c.items[28:]))
	start := int64(binary.NativeEndian.Uint64(c.items[16:])) // #nosec G115 -- an offset in a file
	item := c.items[searchHeaderSize:][:length]
	c.items, c.count = c.items[searchHeaderSize+length:], c.count-1
	c.ahead = segment{start: start, what: unsure, allocated: true}
	if kind := item[20]; length < extentItemSize || kind != btrfsExtentRegular && kind != btrfsExtentPrealloc {
		c.ahead.end = start + int64(u64(item[8:])) // #nosec G115 -- inline, in one sector
		return nil
	}
	disk, offset, bytes := int64(u64(item[21:])), int64(u64(item[37:])), int64(u64(item[45:])) // #nosec G115 -- of a file
	c.ahead.end = start + bytes
	switch {
	case disk == 0:
		c.ahead.what, c.ahead.allocated = hole, false
	case item[20] == btrfsExtentPrealloc:
		c.ahead.what = hole
	case item[17] != 0 || binary.LittleEndian.Uint16(item[18:]) != 0: // encrypted, or who knows
	case item[16] != 0: // compressed: the same place in the same extent is the same bytes
		c.ahead.what, c.ahead.extent, c.ahead.place = stored, disk, offset-start
	default:
		c.ahead.what, c.ahead.place = stored, disk+offset-start
	}
	return nil
}
