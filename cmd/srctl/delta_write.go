package main

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/extent"
	"reflinksr/internal/repository"
)

// writeDelta writes the records that w does not have yet, and the end record.
func writeDelta(w *delta.Writer, d *repository.Delta) error {
	unit := d.Changed.BlockSize
	left := func(do func(start, end int64) error) error {
		from := w.End()
		for _, r := range d.Changed.Ranges {
			if start, end := max(r[0]*unit, from), min((r[0]+r[1])*unit, d.ToSize); start < end {
				if err := do(start, end); err != nil {
					return err
				}
			}
		}
		return nil
	}
	total := int64(0)
	err := left(func(start, end int64) error {
		return extent.EachData(d.Data, start, end, func(start, end int64) error { total += end - start; return nil })
	})
	if err != nil {
		return err
	}
	p := newProgress("exporting", total)
	defer p.end()
	if err := left(func(start, end int64) error { return writeRange(w, d.Data, start, end, p) }); err != nil {
		return err
	}
	return w.Close()
}

// writeRange writes a range of whole blocks. Holes are not read.
func writeRange(w *delta.Writer, f *os.File, start, end int64, p *progress) error {
	buffer := make([]byte, min(delta.MaxData, end-start))
	for start < end {
		found, err := f.Seek(start, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole follows
			found, err = end, nil
		}
		if err != nil {
			return err
		}
		// The filesystem's blocks may be smaller: then data can begin within one of ours.
		if data := min(found/delta.BlockSize*delta.BlockSize, end); data > start {
			if err := w.Zeros(start, data-start); err != nil {
				return err
			}
			start = data
			continue
		}
		hole, err := f.Seek(max(start, found), unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		stop := min((hole+delta.BlockSize-1)/delta.BlockSize*delta.BlockSize, end)
		for start < stop {
			piece := buffer[:min(int64(len(buffer)), stop-start)]
			n, err := f.ReadAt(piece, start)
			if err != nil && err != io.EOF {
				return err
			}
			clear(piece[n:]) // a file of the simple file SR may end within a block
			if err := writePiece(w, start, piece); err != nil {
				return err
			}
			start += int64(len(piece))
			p.add(int64(len(piece)))
		}
	}
	return nil
}

var zeroBlock [delta.BlockSize]byte

// writePiece parts whole blocks into those that are zero and those that are not.
func writePiece(w *delta.Writer, offset int64, piece []byte) error {
	for len(piece) > 0 {
		zero := bytes.Equal(piece[:delta.BlockSize], zeroBlock[:])
		n := delta.BlockSize
		for n < len(piece) && bytes.Equal(piece[n:n+delta.BlockSize], zeroBlock[:]) == zero {
			n += delta.BlockSize
		}
		var err error
		if zero {
			err = w.Zeros(offset, int64(n))
		} else {
			err = w.Data(offset, piece[:n])
		}
		if err != nil {
			return err
		}
		offset, piece = offset+int64(n), piece[n:]
	}
	return nil
}
