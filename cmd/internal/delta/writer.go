package delta

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Writer writes a stream.
type Writer struct {
	chain
	w     io.Writer
	zeros Record // that have not been written yet: more may follow
}

// NewWriter writes the header.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	b := h.encode()
	_, err := w.Write(b)
	return &Writer{chain: chain{header: h, checksum: binary.LittleEndian.Uint32(b[112:]), position: headerSize}, w: w}, err
}

// Continue makes a Writer that goes on after the last record that r has read; w is at
// that Position of the stream.
func (r *Reader) Continue(w io.Writer) *Writer { return &Writer{chain: r.chain, w: w} }

// End is where the records so far end in the disk, in bytes.
func (w *Writer) End() int64 { return max(w.end, w.zeros.Offset+w.zeros.Length) }

// Data writes whole blocks of the disk, at most MaxData bytes. Offsets rise.
func (w *Writer) Data(offset int64, data []byte) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.write(kindData, Record{Offset: offset, Length: int64(len(data)), Data: data})
}

// Zeros writes that a range of whole blocks reads as zeros.
func (w *Writer) Zeros(offset, length int64) error {
	if w.zeros.Length > 0 && w.zeros.Offset+w.zeros.Length == offset {
		w.zeros.Length += length
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.zeros = Record{Offset: offset, Length: length}
	return nil
}

// Close writes the end record.
func (w *Writer) Close() error {
	if err := w.flush(); err != nil {
		return err
	}
	_, err := w.w.Write(w.head(kindEnd, w.records, w.length, 0))
	return err
}

func (w *Writer) flush() error {
	z := w.zeros
	if w.zeros = (Record{}); z.Length == 0 {
		return nil
	}
	return w.write(kindZero, z)
}

func (w *Writer) write(kind string, r Record) error {
	if why := w.refuses(kind, r.Offset, r.Length); why != "" {
		return fmt.Errorf("a delta cannot have %s", why)
	}
	head := w.head(kind, r.Offset, r.Length, crc32.Checksum(r.Data, castagnoli))
	if _, err := w.w.Write(head); err != nil {
		return err
	}
	if len(r.Data) > 0 {
		if _, err := w.w.Write(r.Data); err != nil {
			return err
		}
	}
	w.passed(binary.LittleEndian.Uint32(head[24:]), r)
	return nil
}
