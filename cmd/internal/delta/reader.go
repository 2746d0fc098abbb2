package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Reader reads a stream. It trusts nothing in it.
type Reader struct {
	chain
	r     io.Reader
	data  []byte
	ended bool
}

// NewReader reads the header. The error is a *Damage, ErrVersion, or of the reader.
func NewReader(r io.Reader) (*Reader, error) {
	b := make([]byte, headerSize)
	if n, err := io.ReadFull(r, b); err != nil {
		return nil, cut(err, int64(n))
	}
	h, damage, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	if damage != "" {
		return nil, &Damage{0, damage}
	}
	return &Reader{chain: chain{header: h, checksum: binary.LittleEndian.Uint32(b[112:]), position: headerSize}, r: r}, nil
}

// cut says that the stream ends where it must not.
func cut(err error, at int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Damage{at, "it ends there, before its end record: the export was interrupted, or a part of it is lost"}
	}
	return err
}

// Header is the stream's header.
func (r *Reader) Header() Header { return r.header }

// Position is how many bytes of the stream are whole, up to the last record read.
func (r *Reader) Position() int64 { return r.position }

// Next reads a record, whose checksums are right then. After the last one it is io.EOF:
// the stream is whole. Any other error is a *Damage, or of the reader.
func (r *Reader) Next() (Record, error) {
	if r.ended {
		return Record{}, io.EOF
	}
	damage := func(text string) (Record, error) { return Record{}, &Damage{r.position, text} }
	head := make([]byte, recordSize)
	if n, err := io.ReadFull(r.r, head); err != nil {
		return Record{}, cut(err, r.position+int64(n))
	}
	checksum := binary.LittleEndian.Uint32(head[24:])
	if checksum != r.next(head) {
		return damage("a record's checksum is wrong")
	}
	kind, sum := string(head[:4]), binary.LittleEndian.Uint32(head[20:])
	offset, fits := number(head[4:], 1<<62)
	length, fits2 := number(head[12:], 1<<62)
	switch {
	case !fits || !fits2:
		return damage("a record has numbers that are not possible")
	case kind == kindEnd:
		return Record{}, r.finish(checksum, offset, length, sum)
	case kind != kindData && (kind != kindZero || sum != 0):
		return damage(fmt.Sprintf("a record of the unknown kind %q", kind))
	}
	if why := r.refuses(kind, offset, length); why != "" {
		return damage(why)
	}
	record := Record{Offset: offset, Length: length}
	if kind == kindData {
		if int64(cap(r.data)) < length {
			r.data = make([]byte, length)
		}
		record.Data = r.data[:length]
		if n, err := io.ReadFull(r.r, record.Data); err != nil {
			return Record{}, cut(err, r.position+recordSize+int64(n))
		}
		if crc32.Checksum(record.Data, castagnoli) != sum {
			return damage("the checksum of a record's data is wrong")
		}
	}
	r.passed(checksum, record)
	return record, nil
}

// finish checks the end record.
func (r *Reader) finish(checksum uint32, records, length int64, sum uint32) error {
	switch {
	case records != r.records || length != r.length || sum != 0:
		return &Damage{r.position, fmt.Sprintf("its end record tells of %d records of %d bytes, there were %d of %d", records, length, r.records, r.length)}
	case r.header.Full() && r.end != r.header.ToSize:
		return &Damage{r.position, fmt.Sprintf("nothing is said of the bytes from %d on", r.end)}
	}
	n, err := io.ReadFull(r.r, make([]byte, 1))
	if n > 0 { // whoever goes on from here writes the end record anew
		return &Damage{r.position + recordSize, "something follows its end record"}
	}
	if err != io.EOF {
		return err
	}
	r.checksum, r.position, r.ended = checksum, r.position+recordSize, true
	return io.EOF
}

// Ends refuses a stream of size bytes that is cut off, for it has no end record. What is before that is not read.
func Ends(stream io.ReaderAt, size int64) error {
	if size < headerSize+recordSize {
		return cut(io.ErrUnexpectedEOF, size)
	}
	end := make([]byte, recordSize)
	if _, err := stream.ReadAt(end, size-recordSize); err != nil {
		return cut(err, size)
	}
	if string(end[:4]) != kindEnd {
		return cut(io.ErrUnexpectedEOF, size)
	}
	return nil
}
