package sr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/google/uuid"

	"reflinksr/internal/fault"
)

// superblock is what the first blocks of a disk say of the filesystem that it
// carries. The zero superblock is of a disk that carries neither XFS nor btrfs.
type superblock struct {
	kind       string // "xfs" or "btrfs"
	uuid       string // of the filesystem
	label      string
	devices    uint64 // that the filesystem is spread over
	devid      uint64 // which of them this is; 0 for XFS
	generation uint64 // of btrfs: the highest is the newest
	seed       bool   // of btrfs: it is never written to, and others build on it
	unfinished bool   // its mkfs, or its end, has not come to its end
}

const (
	btrfsSuper = 64 << 10 // where the superblock is, in bytes; XFS's is at 0
	superSize  = 4096
)

// btrfsMirrors are where btrfs has copies of its superblock, in bytes.
var btrfsMirrors = []int64{64 << 20, 256 << 30}

func (sb superblock) String() string {
	return fmt.Sprintf("%s, label %q, uuid %q", sb.kind, fault.Shorten(sb.label), sb.uuid)
}

// superblocks are the blocks of a disk in which superblocks are looked for.
type superblocks [2][]byte

// readSuperblock reads the superblock of a disk, or its image.
func readSuperblock(disk io.ReaderAt) (superblock, error) {
	blocks, err := readSuperblocks(disk)
	return blocks.parse(), err
}

func readSuperblocks(disk io.ReaderAt) (blocks superblocks, err error) {
	for i, offset := range []int64{0, btrfsSuper} {
		block := make([]byte, superSize)
		n, err := disk.ReadAt(block, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return superblocks{}, err
		}
		blocks[i] = block[:n]
	}
	return blocks, nil
}

func (blocks superblocks) equal(other superblocks) bool {
	return bytes.Equal(blocks[0], other[0]) && bytes.Equal(blocks[1], other[1])
}

func (blocks superblocks) parse() superblock {
	xfs, isXFS := parseXFS(blocks[0])
	btrfs, isBtrfs := parseBtrfs(blocks[1])
	switch {
	case isXFS && !isBtrfs:
		return xfs
	case isBtrfs && !isXFS:
		return btrfs
	}
	return superblock{} // neither, or nobody knows which
}

// parseXFS reads struct xfs_dsb (xfs_format.h), which is big-endian.
func parseXFS(b []byte) (superblock, bool) {
	if len(b) < 128 || string(b[:4]) != "XFSB" {
		return superblock{}, false
	}
	return superblock{kind: "xfs", uuid: uuid.UUID(b[32:48]).String(), label: text(b[108:120]), devices: 1, unfinished: b[126] != 0}, true
}

// parseBtrfs reads struct btrfs_super_block (linux/btrfs_tree.h). mkfs.btrfs writes
// another signature first, which is no filesystem's.
func parseBtrfs(b []byte) (superblock, bool) {
	if len(b) < 555 || string(b[65:72]) != "BHRfS_M" || b[64] != '_' && b[64] != '!' {
		return superblock{}, false
	}
	return superblock{
		kind: "btrfs", uuid: uuid.UUID(b[32:48]).String(), label: text(b[299:555]),
		devices: binary.LittleEndian.Uint64(b[136:]), devid: binary.LittleEndian.Uint64(b[201:]),
		generation: binary.LittleEndian.Uint64(b[72:]), seed: binary.LittleEndian.Uint64(b[56:])&(1<<32) != 0,
		unfinished: b[64] == '!',
	}, true
}

// unfinishedAt are the offset and the value of a byte that makes a superblock that of a
// filesystem whose mkfs has not come to its end.
func (sb superblock) unfinishedAt() (offset int64, value byte) {
	if sb.kind == "btrfs" {
		return btrfsSuper + 64, '!'
	}
	return 126, 1
}

// Of struct btrfs_header, with which each block of btrfs's trees begins.
const (
	btrfsNode       = 16 << 10 // the size of a block that mkfs.btrfs chooses
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
