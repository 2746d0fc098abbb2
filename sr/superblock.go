package sr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/google/uuid"
)

// superblock is what the first blocks of a disk say of the filesystem that it
// carries. The zero superblock is of a disk that carries neither XFS nor btrfs.
type superblock struct {
	kind       string // "xfs" or "btrfs"
	uuid       string // of the filesystem
	label      string
	devices    uint64 // that the filesystem is spread over
	unfinished bool   // its mkfs has not come to its end
}

const (
	btrfsSuper = 64 << 10 // where the superblock is, in bytes; XFS's is at 0
	superSize  = 4096
)

// btrfsMirrors are where btrfs has copies of its superblock, in bytes.
var btrfsMirrors = []int64{64 << 20, 256 << 30}

// readSuperblock reads the superblock of a disk, or its image.
func readSuperblock(disk io.ReaderAt) (superblock, error) {
	var blocks [2][]byte
	for i, offset := range []int64{0, btrfsSuper} {
		block := make([]byte, superSize)
		n, err := disk.ReadAt(block, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return superblock{}, err
		}
		blocks[i] = block[:n]
	}
	xfs, isXFS := parseXFS(blocks[0])
	btrfs, isBtrfs := parseBtrfs(blocks[1])
	switch {
	case isXFS && !isBtrfs:
		return xfs, nil
	case isBtrfs && !isXFS:
		return btrfs, nil
	}
	return superblock{}, nil // neither, or nobody knows which
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
		devices: binary.LittleEndian.Uint64(b[136:]), unfinished: b[64] == '!',
	}, true
}

// text is what stands before the first zero.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
