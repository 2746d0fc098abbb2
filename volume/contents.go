package volume

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/inorder"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// UsageOf measures what a volume's data occupies and shares: fault.ErrNoExtents on NFS,
// which does not tell.
func UsageOf(s *sr.SR, key sr.Key) (extent.Usage, error) {
	f, err := OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return extent.Usage{}, err
	}
	defer f.Close()
	return extent.UsageOf(f)
}

// Glance is UsageOf for who looks often: see extent.Glance.
func Glance(s *sr.SR, key sr.Key, goOn func() bool) (u extent.Usage, whole bool, err error) {
	f, err := OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return u, false, err
	}
	defer f.Close()
	return extent.Glance(f, goOn)
}

// CountExtents is how many extents a volume's data has.
func CountExtents(s *sr.SR, key sr.Key) (int, error) {
	f, err := OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return extent.Count(f)
}

// Sink takes a disk from its beginning to its end.
type Sink interface {
	io.Writer
	Zeros(n int64) error // n bytes more, all of them zeros
	End() error          // that was all
}

// pieceSize is how much of a disk is moved at once, in bytes.
const pieceSize = 1 << 20

// CopyFile gives a sink what a file holds, until ctx ends: then the error is its cause. It is a disk of so many bytes: what the file does
// not have at its end is zeros. moved is told how many bytes of how many are done; holes, which nobody has to wait for, do not
// count. from is how many bytes of the disk the sink has already.
//
// Nobody may write to the file: to read that of a disk that a guest writes to past the page cache can cost that guest an
// error (docs/scaling.md).
func CopyFile(ctx context.Context, f *os.File, size, from int64, to Sink, moved func(done, total int64)) error {
	st, err := sys.Fstat(f)
	if err != nil {
		return err
	}
	if from > size {
		return fmt.Errorf("the disk has %d bytes, and a copy of it cannot go on after %d", size, from)
	}
	length := min(st.Size, size)
	done, total := int64(0), int64(0)
	err = extent.EachData(f, from, length, func(start, end int64) error { total += end - start; return nil })
	if err != nil {
		return err
	}
	moved(done, total)
	at := from
	line, buffers, turn := inorder.Begin(), [inorder.Buffers][]byte{}, 0
	zeros := func(n int64) error { return line.Do(func() error { return to.Zeros(n) }) }
	err = extent.EachData(f, from, length, func(start, end int64) error {
		if err := zeros(start - at); err != nil {
			return err
		}
		for at = start; at < end; turn++ {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			b := &buffers[turn%len(buffers)]
			if *b == nil {
				*b = make([]byte, pieceSize)
			}
			piece := (*b)[:min(end-at, pieceSize)]
			if _, err := io.ReadFull(io.NewSectionReader(f, at, end-at), piece); err != nil {
				return fmt.Errorf("reading %s at %d: %w", f.Name(), at, err)
			}
			err := line.Do(func() error {
				_, err := to.Write(piece)
				done += int64(len(piece))
				moved(done, total)
				return err
			})
			if err != nil {
				return err
			}
			at += int64(len(piece))
		}
		return nil
	})
	if err == nil {
		err = zeros(size - at)
	}
	if e := line.End(); err == nil {
		err = e
	}
	if err == nil {
		err = to.End()
	}
	return err
}
