package volume

import (
	"fmt"
	"os"

	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// CreateFrom makes a volume from a record, in which a sector size of 0 is that of the SR's disks. It has size bytes and holds what
// give gives to a sink: exactly so many, of which zeros are holes; what is none must leave the filesystem its reserve
// (filesystem.Fill). If that fails nothing is left behind, and until all of it is durable there is no volume.
func CreateFrom(handle string, r *Record, size int64, give func(Sink) error) (Volume, error) {
	return createWith(handle, r, size, func(s *sr.SR, f *os.File) error {
		if err := setLength(f, RoundUp(size)); err != nil {
			return err
		}
		to := &filler{f: f, filling: filesystem.Fill(s.Root), size: size}
		if err := give(to); err != nil {
			return err
		}
		if to.at != size {
			return fmt.Errorf("the new disk's data end after %d of %d bytes", to.at, size)
		}
		return nil
	})
}

// CreateAsLong is CreateFrom for a disk of which nobody knows the size before all of it was given: it is as long as that, and
// nothing is no disk.
func CreateAsLong(handle string, r *Record, give func(Sink) error) (Volume, error) {
	return createWith(handle, r, SizeUnit, func(s *sr.SR, f *os.File) error {
		to := &filler{f: f, filling: filesystem.Fill(s.Root), size: MaxSize, grows: true}
		if err := give(to); err != nil {
			return err
		}
		if err := checkSize(to.at); err != nil {
			return err
		}
		return setLength(f, RoundUp(to.at))
	})
}

// filler is the sink of a file that holds nothing yet.
type filler struct {
	f        *os.File
	filling  *filesystem.Filling
	at, size int64
	grows    bool  // the file is as long as it has to be
	length   int64 // of the file then
	written  sys.Writeback
}

// ahead is by how much a file that grows is longer than what it holds, in bytes: at its end XFS allocates more than is written,
// also where a hole follows.
const ahead = 1 << 30

func (to *filler) Write(p []byte) (int, error) {
	if err := to.room(int64(len(p))); err != nil {
		return 0, err
	}
	if err := to.filling.Take(int64(len(p))); err != nil {
		return 0, fmt.Errorf("the new disk was given up at byte %d: %w", to.at, err)
	}
	n, err := to.f.WriteAt(p, to.at)
	to.at += int64(n)
	to.written.Wrote(to.f, to.at)
	return n, err
}

// Zeros leaves a hole.
func (to *filler) Zeros(n int64) error {
	if err := to.room(n); err != nil {
		return err
	}
	to.at += n
	return nil
}

func (to *filler) End() error { return nil }

func (to *filler) room(n int64) error {
	if n < 0 || n > to.size-to.at {
		return fault.Errorf(fault.ErrSize, "size", "the new disk has %d bytes, and more are given for it", to.size)
	}
	if end := to.at + n; to.grows && end > to.length {
		to.length = min(end+ahead, MaxSize)
		return setLength(to.f, to.length)
	}
	return nil
}
