package xfs

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"reflinksr/internal/uuids"
)

// A template is what mkfs.xfs writes to a blank disk of its size: blocks, each after its offset in 8 bytes, compressed.
// A larger disk gets it as well; the filesystem is grown to the disk's size once it is mounted, and its groups
// keep theirs, half the template's: 2 to 32 of them on a disk below 128 GiB, and 16 for each TiB of a larger one.

//go:embed templates/*.gz
var templates embed.FS

// templateSizes are those that there are, in MiB.
var templateSizes = []int64{512, 8 << 10, 128 << 10}

// MinTemplate is the size of the smallest disk that there is a template for, in bytes.
const MinTemplate = 512 << 20

// NewImage is a filesystem with that UUID for a disk of that size, in bytes, which is at least MinTemplate.
func NewImage(size int64, uuid uuids.UUID) (*Image, error) {
	for _, mib := range slices.Backward(templateSizes) {
		if size < mib<<20 {
			continue
		}
		data, err := templates.ReadFile(templateFile(mib))
		if err != nil {
			return nil, err
		}
		i, err := unpack(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", templateFile(mib), err)
		}
		i.SetUUID(uuid)
		return i, nil
	}
	return nil, fmt.Errorf("no template fits into %d bytes", size)
}

func templateFile(mib int64) string { return fmt.Sprintf("templates/%dMiB.gz", mib) }

func unpack(packed []byte) (*Image, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	var i Image
	for record := range slices.Chunk(data, 8+BlockSize) {
		if len(record) < 8+BlockSize || kindOf(record[8:]) == "" {
			return nil, fmt.Errorf("block %d is none of a new XFS", len(i.Blocks))
		}
		i.Blocks = append(i.Blocks, Block{int64(binary.BigEndian.Uint64(record)), record[8:]}) // #nosec G115 -- of ours
	}
	if len(i.Blocks) == 0 || i.Blocks[0].Offset != 0 || kindOf(i.Blocks[0].Data) != "XFSB" {
		return nil, fmt.Errorf("there is no superblock at its beginning")
	}
	i.Log = logOf(i.Blocks[0].Data)
	return &i, nil
}
