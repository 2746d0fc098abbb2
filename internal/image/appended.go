package image

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"reflinksr/internal/extent"
)

// appended is a file that is written from its beginning to its end, holes left out, of which the checksum is known at any moment.
type appended struct {
	*os.File
	end int64  // of what was written
	sum uint32 // CRC-32C of all before that
}

// WriteAt writes behind all that was written before.
func (a *appended) WriteAt(p []byte, at int64) (int, error) {
	if at < a.end {
		return 0, fmt.Errorf("%s: %d is before what was written last, which ends at %d", a.Name(), at, a.end)
	}
	n, err := a.File.WriteAt(p, at)
	a.sum = crc32.Update(afterZeros(a.sum, at-a.end), castagnoli, p[:n])
	a.end = at + int64(n)
	return n, err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the checksum of a file up to some place: holes are not read.
func sumOf(ctx context.Context, f *os.File, end int64, moved func(done, total int64)) (sum uint32, err error) {
	done, total, at := int64(0), int64(0), int64(0)
	if err := extent.EachData(f, 0, end, func(start, stop int64) error { total += stop - start; return nil }); err != nil {
		return 0, err
	}
	buffer := make([]byte, pieceSize)
	err = extent.EachData(f, 0, end, func(start, stop int64) error {
		sum = afterZeros(sum, start-at)
		for at = start; at < stop; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			piece := buffer[:min(stop-at, pieceSize)]
			if _, err := io.ReadFull(io.NewSectionReader(f, at, stop-at), piece); err != nil {
				return fmt.Errorf("reading %s at %d: %w", f.Name(), at, err)
			}
			sum = crc32.Update(sum, castagnoli, piece)
			at += int64(len(piece))
			done += int64(len(piece))
			moved(done, total)
		}
		return nil
	})
	return afterZeros(sum, end-at), err
}

// afterZeros is a checksum when n zeros more have come, without going through them: each zero multiplies the register, a polynomial
// over two elements, by x to the eighth.
func afterZeros(sum uint32, n int64) uint32 {
	register := ^sum
	for power := uint32(1) << 23; n > 0; n >>= 1 { // the highest bit is the coefficient of x to the 0th
		if n&1 != 0 {
			register = multiply(power, register)
		}
		power = multiply(power, power)
	}
	return ^register
}

// multiply is the product of two polynomials, modulo that of the checksum.
func multiply(a, b uint32) (product uint32) {
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
