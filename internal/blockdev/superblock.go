package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"reflinksr/internal/fault"
	"reflinksr/internal/uuids"
	"reflinksr/internal/xfs"
)

// Superblock is what the first blocks of a disk say of the filesystem that it
// carries. The zero superblock is of a disk that carries neither XFS nor btrfs.
type Superblock struct {
	Kind       string // "xfs" or "btrfs"
	UUID       string // of the filesystem
	Label      string
	Devices    uint64 // that the filesystem is spread over
	DeviceID   uint64 // which of them this is; 0 for XFS
	Generation uint64 // of btrfs: the highest is the newest
	Seed       bool   // of btrfs: it is never written to, and others build on it
	Unfinished bool   // its mkfs, or its end, has not come to its end
	Features   xfs.Features
}

const (
	BtrfsSuper = 64 << 10 // where the superblock is, in bytes; XFS's is at 0
	SuperSize  = 4096     // how much of it is read, in bytes
)

// BtrfsMirrors are where btrfs has copies of its superblock, in bytes.
var BtrfsMirrors = []int64{64 << 20, 256 << 30}

func (sb Superblock) String() string {
	return fmt.Sprintf("%s, label %q, uuid %q", sb.Kind, fault.Shorten(sb.Label), sb.UUID)
}

// Superblocks are the blocks of a disk in which superblocks are looked for.
type Superblocks [2][]byte

// readSuperblock reads the superblock of a disk, or its image.
func readSuperblock(disk io.ReaderAt) (Superblock, error) {
	blocks, err := ReadSuperblocks(disk)
	return blocks.Parse(), err
}

// ReadSuperblocks reads the places of a disk, or of its image, where superblocks are.
func ReadSuperblocks(disk io.ReaderAt) (blocks Superblocks, err error) {
	for i, offset := range []int64{0, BtrfsSuper} {
		block := make([]byte, SuperSize)
		n, err := disk.ReadAt(block, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return Superblocks{}, err
		}
		blocks[i] = block[:n]
	}
	return blocks, nil
}

// Equal says whether both hold the same bytes.
func (blocks Superblocks) Equal(other Superblocks) bool {
	return bytes.Equal(blocks[0], other[0]) && bytes.Equal(blocks[1], other[1])
}

// Parse reads the superblock that is there: the zero one if there is none.
func (blocks Superblocks) Parse() Superblock {
	xfs, isXFS := parseXFS(blocks[0])
	btrfs, isBtrfs := ParseBtrfs(blocks[1])
	switch {
	case isXFS && !isBtrfs:
		return xfs
	case isBtrfs && !isXFS:
		return btrfs
	}
	return Superblock{} // neither, or nobody knows which
}

// parseXFS reads struct xfs_dsb (xfs_format.h), which is big-endian.
func parseXFS(b []byte) (Superblock, bool) {
	if len(b) < 128 || string(b[:4]) != "XFSB" {
		return Superblock{}, false
	}
	return Superblock{
		Kind: "xfs", UUID: uuids.UUID(b[32:48]).String(), Label: text(b[108:120]), Devices: 1, Unfinished: b[126] != 0,
		Features: xfs.ParseFeatures(b),
	}, true
}

// ParseBtrfs reads struct btrfs_super_block (linux/btrfs_tree.h). mkfs.btrfs writes
// another signature first, which is no filesystem's.
func ParseBtrfs(b []byte) (Superblock, bool) {
	if len(b) < 555 || string(b[65:72]) != "BHRfS_M" || b[64] != '_' && b[64] != '!' {
		return Superblock{}, false
	}
	return Superblock{
		Kind: "btrfs", UUID: uuids.UUID(b[32:48]).String(), Label: text(b[299:555]),
		Devices: binary.LittleEndian.Uint64(b[136:]), DeviceID: binary.LittleEndian.Uint64(b[201:]),
		Generation: binary.LittleEndian.Uint64(b[72:]), Seed: binary.LittleEndian.Uint64(b[56:])&(1<<32) != 0,
		Unfinished: b[64] == '!',
	}, true
}

// unfinishedAt are the offset and the value of a byte that makes a superblock that of a
// filesystem whose mkfs has not come to its end.
func (sb Superblock) unfinishedAt() (offset int64, value byte) {
	if sb.Kind == "btrfs" {
		return BtrfsSuper + 64, '!'
	}
	return 126, 1
}

// Of struct btrfs_header, with which each block of btrfs's trees begins.
const (
	BtrfsNode       = 16 << 10 // the size of a block that mkfs.btrfs chooses
	btrfsFirstTrees = 1 << 20  // where mkfs.btrfs puts the first of them, bytes into the disk
	btrfsAfterMkfs  = 64 << 20 // before here a mkfs that went on has put more
)

// isFirstTree says whether a block is one of those that mkfs.btrfs writes to a disk first of
// all, before the superblock: of the first generation, and whole.
func isFirstTree(block []byte, offset int64) bool {
	le := binary.LittleEndian
	return offset >= btrfsFirstTrees && le.Uint64(block[48:]) == uint64(offset) && le.Uint64(block[80:]) == 1 &&
		le.Uint32(block) == crc32.Checksum(block[32:], crc32.MakeTable(crc32.Castagnoli))
}

// text is what stands before the first zero.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
