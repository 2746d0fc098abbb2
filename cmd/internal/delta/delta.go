// Package delta is the format in which srctl writes what has changed between two
// volumes. A stream is read and written from its beginning to its end and needs no
// seeking, so it may come through a pipe.
//
// All numbers are little-endian and unsigned. All offsets, lengths and sizes are in
// bytes, multiples of the block size. A stream is a header, any number of records, and
// an end record, after which nothing follows.
//
// The header, 116 bytes:
//
//	  0  16  "reflinksr delta\n"
//	 16   4  version of the format: 1
//	 20   4  block size: 4096
//	 24  36  key of the volume that the target holds, as text;
//	         36 zero bytes in a full stream, which begins with nothing
//	 60  36  key of the volume that the target will hold, as text
//	 96   8  size of the first, 0 in a full stream
//	104   8  size of the second
//	112   4  CRC-32C of the bytes 0 to 111
//
// A record, 28 bytes and its data:
//
//	 0   4  "DATA" or "ZERO"
//	 4   8  offset in the disk
//	12   8  length; of DATA at most 1048576
//	20   4  DATA: CRC-32C of the data; ZERO: 0
//	24   4  CRC-32C of the four bytes at the same place of the record before it, or of
//	        the header's last four, and then of the bytes 0 to 23
//	28      DATA: as many bytes as its length says; ZERO: none, the disk reads as zeros
//
// Since a record's checksum depends on the one before, a stream whose records were
// lost, repeated or taken from elsewhere is found out. Records come in the order of
// their offsets, do not overlap, and end where the second volume ends or before. Those
// of a full stream cover all of it.
//
// The end record, 28 bytes:
//
//	 0   4  "END\n"
//	 4   8  number of records before it
//	12   8  sum of their lengths
//	20   4  0
//	24   4  CRC-32C, as in a record
package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"reflinksr/internal/repository"
)

const (
	magic   = "reflinksr delta\n"
	version = 1

	// BlockSize is the unit of offsets, lengths and sizes, in bytes.
	BlockSize = 4096

	// MaxData is the most that one record holds, in bytes.
	MaxData = 1 << 20

	// MaxSize is the most that a disk can have, in bytes: 1 EiB.
	MaxSize = 1 << 60

	headerSize = 116
	recordSize = 28
	keySize    = 36
)

const (
	kindData = "DATA"
	kindZero = "ZERO"
	kindEnd  = "END\n"
)

// ErrVersion is for a stream of a version that is not known here.
var ErrVersion = errors.New("a stream of another version")

// Header says what a stream is the difference of.
type Header struct {
	From, To         repository.Key // From is "" in a full stream
	FromSize, ToSize int64          // bytes
}

// Full says whether the stream begins with nothing.
func (h Header) Full() bool { return h.From == "" }

// Record is a piece of the disk.
type Record struct {
	Offset, Length int64  // bytes
	Data           []byte // nil: the disk reads as zeros there. Valid until the next record is read
}

// Damage is what is wrong with a stream, and where.
type Damage struct {
	At   int64 // byte of the stream
	Text string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("the stream is damaged at byte %d: %s", d.At, d.Text)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chain is what a reader and a writer know of the stream so far.
type chain struct {
	header   Header
	checksum uint32 // of the last record, or of the header
	end      int64  // of the last record, in the disk
	records  int64
	length   int64 // of all records together
	position int64 // in the stream, after the last whole record
}

func (h Header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, BlockSize)
	from := make([]byte, keySize)
	copy(from, h.From)
	b = append(b, from...)
	b = append(b, h.To...)
	b = appendNumber(b, h.FromSize)
	b = appendNumber(b, h.ToSize)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendNumber(b []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(n)) // #nosec G115 -- not negative
}

// number reads a number that is not more than limit.
func number(b []byte, limit int64) (int64, bool) {
	n := binary.LittleEndian.Uint64(b)
	return int64(n), n <= uint64(limit) // #nosec G115 -- limit is not negative, and n not used if it is above
}

func decodeHeader(b []byte) (h Header, damage string, err error) {
	if string(b[:len(magic)]) != magic {
		return h, "it does not begin as a stream of srctl delta export does", nil
	}
	if v := binary.LittleEndian.Uint32(b[16:]); v != version {
		return h, "", fmt.Errorf("%w: %d, this program knows %d: use the program that wrote it, or a newer one", ErrVersion, v, version)
	}
	if binary.LittleEndian.Uint32(b[112:]) != crc32.Checksum(b[:112], castagnoli) {
		return h, "the header's checksum is wrong", nil
	}
	if n := binary.LittleEndian.Uint32(b[20:]); n != BlockSize {
		return h, fmt.Sprintf("its blocks have %d bytes, and not %d", n, BlockSize), nil
	}
	if from := string(b[24:60]); from != string(make([]byte, keySize)) {
		if h.From, err = repository.ParseKey(from); err != nil {
			return h, err.Error(), nil
		}
	}
	if h.To, err = repository.ParseKey(string(b[60:96])); err != nil {
		return h, err.Error(), nil
	}
	var fits, fits2 bool
	h.FromSize, fits = number(b[96:], MaxSize)
	h.ToSize, fits2 = number(b[104:], MaxSize)
	if !fits || !fits2 || h.FromSize%BlockSize != 0 || h.ToSize%BlockSize != 0 || h.Full() && h.FromSize != 0 {
		return h, "the header has sizes that no disk has", nil
	}
	return h, "", nil
}

// head makes the first 28 bytes of a record.
func (c *chain) head(kind string, first, second int64, sum uint32) []byte {
	b := make([]byte, 0, recordSize)
	b = append(b, kind...)
	b = appendNumber(b, first)
	b = appendNumber(b, second)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return binary.LittleEndian.AppendUint32(b, c.next(b))
}

// next is the checksum of the record that begins with b.
func (c *chain) next(b []byte) uint32 {
	before := binary.LittleEndian.AppendUint32(nil, c.checksum)
	return crc32.Update(crc32.Checksum(before, castagnoli), castagnoli, b[:24])
}

// refuses says why a record cannot come next, or "".
func (c *chain) refuses(kind string, offset, length int64) string {
	switch {
	case offset%BlockSize != 0 || length%BlockSize != 0 || length == 0:
		return fmt.Sprintf("a record of %d bytes at %d, which are no whole blocks", length, offset)
	case kind == kindData && length > MaxData:
		return fmt.Sprintf("a record of %d bytes, at most %d are possible", length, MaxData)
	case offset < c.end:
		return fmt.Sprintf("a record at %d, after one that ends at %d", offset, c.end)
	case length > c.header.ToSize-offset:
		return fmt.Sprintf("a record of %d bytes at %d in a disk of %d", length, offset, c.header.ToSize)
	case c.header.Full() && offset != c.end:
		return fmt.Sprintf("nothing is said of the bytes %d to %d", c.end, offset)
	}
	return ""
}

// passed notes a record that has been written or read.
func (c *chain) passed(checksum uint32, r Record) {
	c.checksum = checksum
	c.end, c.length = r.Offset+r.Length, c.length+r.Length
	c.records++
	c.position += recordSize + int64(len(r.Data))
}
