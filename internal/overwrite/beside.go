package overwrite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/uuids"
)

// A superblock outlives the filesystem: who partitions a disk, or gives it to LVM, need not
// overwrite it. So what is beside a superblock of ours says whether the disk is still its.

const (
	btrfsReserved = 1 << 20 // bytes at the beginning that btrfs leaves to others
	bootCode      = 440     // where the first sector of a disk is that of a partition table
	sector        = 512
)

// beside is where something is on a disk that is not of the filesystem with that superblock:
// -1 if nothing is. Where a filesystem that is whole keeps what is in it nobody can tell;
// of one whose mkfs has not come to its end it is known what may be at the ends.
func beside(d *blockdev.Disk, sb blockdev.Superblock) (int64, error) {
	within := min(blockdev.ClearEnd, d.Size())
	for _, begin := range []int64{0, (d.Size() - within) &^ (blockdev.BtrfsNode - 1)} {
		end := begin + within
		switch {
		case sb.Unfinished:
		case begin > 0:
			return -1, nil
		case sb.Kind == "btrfs":
			end = btrfsReserved
		default:
			end = sector
		}
		if begin > 0 {
			end = d.Size()
		}
		data := make([]byte, min(end, d.Size())-begin)
		if _, err := d.File().ReadAt(data, begin); err != nil {
			return -1, fmt.Errorf("reading %s: %w", d.Path(), err)
		}
		if at := foreignIn(sb, data, begin); at >= 0 {
			return at, nil
		}
	}
	return -1, nil
}

// foreignIn is where the first block of these is that mkfs does not write: -1 if none is.
func foreignIn(sb blockdev.Superblock, data []byte, begin int64) int64 {
	size, known := int64(blockdev.BtrfsNode), isTree
	if sb.Kind == "xfs" {
		size, known = blockdev.SuperSize, isHeader
	}
	for i := int64(0); i < int64(len(data)); i += size {
		block, offset := data[i:min(i+size, int64(len(data)))], begin+i
		if sb.Kind == "btrfs" && (offset == blockdev.BtrfsSuper || slices.Contains(blockdev.BtrfsMirrors, offset)) {
			block = block[blockdev.SuperSize:] // that is read elsewhere
		}
		if !isZero(block) && !known(sb, block, offset) {
			return offset
		}
	}
	return -1
}

func isZero(block []byte) bool {
	return !slices.ContainsFunc(block, func(b byte) bool { return b != 0 })
}

// isTree says whether a block is of one of this btrfs's trees, and whole.
func isTree(sb blockdev.Superblock, block []byte, offset int64) bool {
	return offset >= btrfsReserved && len(block) == blockdev.BtrfsNode && has(sb, block, 32) &&
		binary.LittleEndian.Uint32(block) == crc32.Checksum(block[32:], crc32.MakeTable(crc32.Castagnoli))
}

// xfsHeaders are what the blocks of XFS begin with that mkfs.xfs and growing write, and where in them
// the filesystem's UUID is (xfs_format.h). The first superblock is of no interest here.
var xfsHeaders = map[string]int{
	"XFSB": 32, "XAGF": 64, "XAGI": 296, "XAFL": 8, "AB3B": 32, "AB3C": 32, "IAB3": 32, "FIB3": 32, "RMB3": 32, "R3FC": 32,
}

// isHeader says whether a block is of those of this XFS. The first one of the disk, and one
// with inodes, are of several things.
func isHeader(sb blockdev.Superblock, block []byte, offset int64) bool {
	if offset > 0 && len(block) == blockdev.SuperSize {
		if at, is := xfsHeaders[string(block[:4])]; is && has(sb, block, at) {
			return true
		}
	}
	for i := 0; i < len(block); i += sector {
		part := block[i:min(i+sector, len(block))]
		switch at, is := xfsHeaders[string(part[:min(4, len(part))])]; {
		case isZero(part):
		case offset == 0 && i == 0 && len(part) == sector && isZero(part[bootCode:]):
		case offset == 0 && i > 0 && is && has(sb, part, at):
		case offset > 0 && string(part[:min(2, len(part))]) == "IN" && has(sb, part, 160):
		default:
			return false
		}
	}
	return true
}

// has says whether the filesystem's UUID is there in a block.
func has(sb blockdev.Superblock, block []byte, at int) bool {
	id, ok := uuids.Parse(sb.UUID)
	return ok && len(block) >= at+16 && bytes.Equal(block[at:at+16], id[:])
}
