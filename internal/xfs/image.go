package xfs

import (
	"encoding/binary"
	"hash/crc32"

	"reflinksr/internal/uuids"
)

// Image is an empty filesystem: what is to be written to a disk, on which all else may be anything.
type Image struct {
	Blocks []Block // the first is that of the superblock
	Log    Range   // must be zero, but for its Block
}

// Block is one of the filesystem's, BlockSize bytes.
type Block struct {
	Offset int64 // bytes into the disk
	Data   []byte
}

// Range is a part of a disk, in bytes.
type Range struct{ Offset, Length int64 }

// BlockSize is that of the filesystems that are made here, which have sectors of as many bytes: they can be mounted
// on any disk, while one with sectors of 512 bytes is refused by a disk that has only larger ones.
const BlockSize = 4096

// inProgress is the byte of the superblock that is 1 as long as a filesystem is being made. No kernel mounts such a one.
const inProgress = 126

// headers are what the blocks of a new filesystem begin with, in big-endian order, and where in them are its UUID
// and their checksum (xfs_format.h, xfs_log_format.h): in each piece of so many bytes. The log's has no checksum yet.
var headers = map[string]struct{ uuid, sum, piece int }{
	"XFSB": {32, 224, BlockSize}, "XAGF": {64, 216, BlockSize}, "XAGI": {296, 312, BlockSize}, "XAFL": {8, 32, BlockSize},
	"AB3B": {32, 52, BlockSize}, "AB3C": {32, 52, BlockSize}, "IAB3": {32, 52, BlockSize}, "FIB3": {32, 52, BlockSize}, "R3FC": {32, 52, BlockSize},
	"IN": {160, 100, inodeSize}, "\xfe\xed\xba\xbe": {304, -1, BlockSize},
}

const inodeSize = 512

// kindOf is the key in headers that a block is of: "" if it is of none.
func kindOf(block []byte) string {
	if string(block[:2]) == "IN" {
		return "IN"
	}
	if _, known := headers[string(block[:4])]; known {
		return string(block[:4])
	}
	return ""
}

// SetUUID makes it another filesystem.
func (i *Image) SetUUID(uuid uuids.UUID) {
	for _, b := range i.Blocks {
		h := headers[kindOf(b.Data)]
		for at := 0; at < len(b.Data); at += h.piece {
			piece := b.Data[at : at+h.piece]
			copy(piece[h.uuid:], uuid[:])
			sign(piece, h.sum)
		}
	}
}

// Unfinished is the superblock's block as it is to be written before all else.
func (i *Image) Unfinished() Block {
	first := i.Blocks[0]
	first.Data = append([]byte(nil), first.Data...)
	first.Data[inProgress] = 1
	sign(first.Data, headers["XFSB"].sum)
	return first
}

// sign puts the checksum of what begins with a header into it: little-endian, and of zeros in its own place.
func sign(piece []byte, at int) {
	if at < 0 {
		return
	}
	binary.LittleEndian.PutUint32(piece[at:], 0)
	binary.LittleEndian.PutUint32(piece[at:], crc32.Checksum(piece, crc32.MakeTable(crc32.Castagnoli)))
}

// logOf is where a superblock says that the log is.
func logOf(sb []byte) Range {
	be := binary.BigEndian
	start, groupBits := be.Uint64(sb[48:]), sb[124]
	group, within := start>>groupBits, start&(1<<groupBits-1)
	block := group*uint64(be.Uint32(sb[84:])) + within
	return Range{int64(block) * BlockSize, int64(be.Uint32(sb[96:])) * BlockSize} // #nosec G115 -- of an image of ours
}
