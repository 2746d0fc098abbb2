package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockSize is what is whole or not there, in bytes. No device promises that of more.
const blockSize = 4096

// What a block begins with: 8 bytes that tell it from everything else, then its
// place on the disk, the writer, the write's number, and a checksum of all.
const (
	magic      = 0x6461_6f6c_6873_6572
	atBlock    = 8
	atWriter   = 16
	atNumber   = 24
	atChecksum = 32
	header     = 40
)

var zeros = make([]byte, blockSize)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:atChecksum], castagnoli), castagnoli, b[header:])
}

// stamp makes b the numbered write of a writer to a block.
func stamp(b []byte, block, writer, number int) {
	little := binary.LittleEndian
	little.PutUint64(b, magic)
	little.PutUint64(b[atBlock:], uint64(block))
	little.PutUint64(b[atWriter:], uint64(writer))
	little.PutUint64(b[atNumber:], uint64(number))
	// Every part of the block tells of the write, so that no two parts of different
	// writes fit together.
	rest := b[header:blockSize]
	little.PutUint64(rest, uint64(number)<<8|uint64(writer))
	for n := 8; n < len(rest); n *= 2 {
		copy(rest[n:], rest[:n])
	}
	little.PutUint64(b[atChecksum:], uint64(checksum(b)))
}

// parse reads what a block holds.
func parse(b []byte, block, writers int) content {
	little := binary.LittleEndian
	if bytes.Equal(b, zeros) {
		return content{}
	}
	c := content{writer: int(little.Uint64(b[atWriter:])), number: int(little.Uint64(b[atNumber:]))}
	whole := little.Uint64(b) == magic && little.Uint64(b[atChecksum:]) == uint64(checksum(b))
	if !whole || little.Uint64(b[atBlock:]) != uint64(block) || c.writer < 0 || c.writer >= writers || c.number < 1 {
		return content{torn: true}
	}
	return c
}

// aligned is a buffer that direct I/O accepts.
func aligned(size int) []byte {
	b := make([]byte, size+blockSize)
	skip := blockSize - int(uintptr(unsafe.Pointer(&b[0]))%blockSize)
	return b[skip : skip+size]
}

// read reads what every block of a disk holds: past the page cache, from the file or
// device at path.
func read(path string, writers int) ([]content, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var disk []content
	buffer := aligned(1 << 20)
	for {
		n, err := f.ReadAt(buffer, int64(len(disk))*blockSize)
		for at := 0; at+blockSize <= n; at += blockSize {
			disk = append(disk, parse(buffer[at:at+blockSize], len(disk), writers))
		}
		if errors.Is(err, io.EOF) {
			return disk, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
