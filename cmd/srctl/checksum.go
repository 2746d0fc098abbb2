package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/repository"
)

func (s *session) checksum() *cobra.Command {
	return s.takes(s.answersJSON(command("checksum SR VOLUME", "a checksum of what a disk holds, to compare two copies",
		`checksum reads a volume, as it is at one moment, and prints a checksum of what it holds:
two disks of the same size have the same if they hold the same, in whatever SR, on
whatever filesystem, and however thin. Holes are not read. It is SHA-256 of the offset
(8 bytes, little-endian) and the data of each block of 4096 bytes that is not all zeros,
in order, and then of the disk's size.`,
		`  srctl checksum tank web
  ssh other srctl checksum tank web`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			sum, err := checksumOf(ctx, v)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(s.out, map[string]string{"key": string(v.Key), "checksum": sum})
			}
			_, err = fmt.Fprintln(s.out, sum)
			return err
		}))), anSR, aVolume)
}

// checksumOf reads all that a volume holds.
func checksumOf(ctx context.Context, v repository.Volume) (string, error) {
	ctx, stop := untilEnded(ctx)
	defer stop()
	c := &contents{hash: sha256.New()}
	err := withProgress(ctx, "reading", func(moved func(done, total int64)) error {
		_, err := v.Export(ctx, c, moved)
		return err
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(c.hash.Sum(nil)), nil
}

// contents is a sink that hashes what a disk holds, whatever of it are holes.
type contents struct {
	hash  hash.Hash
	at    int64 // how much has come
	block [delta.BlockSize]byte
}

func (c *contents) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		in := int(c.at % delta.BlockSize)
		some := copy(c.block[in:], p[n:])
		n, c.at = n+some, c.at+int64(some)
		if in+some == delta.BlockSize {
			c.add()
		}
	}
	return len(p), nil
}

// Zeros adds zeros. Of a block that is zero there is nothing to hash.
func (c *contents) Zeros(n int64) error {
	if in := c.at % delta.BlockSize; in > 0 {
		some := min(n, delta.BlockSize-in)
		clear(c.block[in : in+some])
		n, c.at = n-some, c.at+some
		if in+some == delta.BlockSize {
			c.add()
		}
	}
	if whole := n / delta.BlockSize * delta.BlockSize; whole > 0 {
		n, c.at = n-whole, c.at+whole
	}
	clear(c.block[:n])
	c.at += n
	return nil
}

// End is called once, after all of the disk.
func (c *contents) End() error {
	size := c.at
	if in := c.at % delta.BlockSize; in > 0 {
		clear(c.block[in:])
		c.at += delta.BlockSize - in
		c.add()
	}
	return binary.Write(c.hash, binary.LittleEndian, size)
}

// add hashes a whole block, which ends where the contents are.
func (c *contents) add() {
	if bytes.Equal(c.block[:], zeroBlock[:]) {
		return
	}
	var offset [8]byte
	binary.LittleEndian.PutUint64(offset[:], uint64(c.at-delta.BlockSize)) // #nosec G115 -- an offset is not negative
	c.hash.Write(offset[:])
	c.hash.Write(c.block[:])
}
