package hammer

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockSize is what is written and read at once, in bytes: the largest sector.
const blockSize = 4096

// block is memory that direct I/O accepts.
func block() []byte {
	b := make([]byte, 2*blockSize)
	skip := blockSize - int(uintptr(unsafe.Pointer(&b[0]))%blockSize)
	return b[skip : skip+blockSize]
}

// fill writes the tag over a whole block, so that a torn one is seen.
func fill(b []byte, tag uint64) {
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], tag)
	}
}

// tagOf is the tag of a block.
func tagOf(b []byte) (uint64, error) {
	tag := binary.LittleEndian.Uint64(b)
	for i := 8; i < len(b); i += 8 {
		if other := binary.LittleEndian.Uint64(b[i:]); other != tag {
			return 0, fmt.Errorf("the block is torn: %x at 0, %x at %d", tag, other, i)
		}
	}
	return tag, nil
}

// withDevice opens a device as a guest's disk: past this host's page cache.
func withDevice(path string, flags int, do func(*os.File) error) error {
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(f)
}

func writeTag(device string, tag uint64) error {
	b := block()
	fill(b, tag)
	return withDevice(device, os.O_WRONLY, func(f *os.File) error {
		_, err := f.WriteAt(b, 0)
		return err
	})
}

func readTag(device string) (tag uint64, err error) {
	b := block()
	err = withDevice(device, os.O_RDONLY, func(f *os.File) error {
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		tag, err = tagOf(b)
		return err
	})
	return tag, err
}

// dataTag reads the tag in a data file that nobody writes to.
func dataTag(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, blockSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	tag, err := tagOf(b)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return tag, err
}
