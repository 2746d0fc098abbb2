package nbd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// File is a Backend: a file of its own size, or a block device. It goes through the page cache, so it must be no file that a loop
// device writes to past that (docs/scaling.md, "Who else reads the file"): serve the device.
type File struct {
	f    *os.File
	size int64
	kept bool

	known atomic.Pointer[[2]int64] // a stretch of data, unless it was made a hole since

	mu           sync.Mutex
	changed      sync.Cond
	begun, ended int   // flushes
	err          error // of the first that failed
}

// NewFile serves an open file or block device. With kept, what was written once stays data: zeros that a client wants are
// written as such, and trimming does nothing. Whoever lays the file over another (Volume.compose) needs that, for there a hole
// is what was never written.
func NewFile(f *os.File, kept bool) (*File, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	switch {
	case st.Mode().IsRegular():
	case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s is neither a file nor a block device: it cannot be served as a disk", f.Name())
	}
	d := &File{f: f, size: size, kept: kept}
	d.changed.L = &d.mu
	return d, nil
}

// Size is the file's when it was opened.
func (d *File) Size() int64 { return d.size }

// ReadAt reads; a file that has become shorter is an error.
func (d *File) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.f.ReadAt(p, offset)
	if err == io.EOF {
		err = fmt.Errorf("%s has become shorter: %w", d.f.Name(), io.ErrUnexpectedEOF)
	}
	return n, err
}

// WriteAt writes.
func (d *File) WriteAt(p []byte, offset int64) (int, error) { return d.f.WriteAt(p, offset) }

// Flush is fdatasync(2), one for all who wait for it. The kernel tells of a write that was lost once: from then on it is
// told here.
func (d *File) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	enough := d.begun + 1 // what runs may have missed what was written last
	for d.ended < d.begun && d.ended < enough {
		d.changed.Wait()
	}
	if d.ended >= enough || d.err != nil {
		return d.err
	}
	d.begun++
	d.mu.Unlock()
	err := sys.Do(func() error { return unix.Fdatasync(int(d.f.Fd())) })
	d.mu.Lock()
	d.ended = d.begun
	if err != nil {
		d.err = &os.PathError{Op: "fdatasync", Path: d.f.Name(), Err: err}
	}
	d.changed.Broadcast()
	return d.err
}

// Trim punches a hole, where that can be done.
func (d *File) Trim(offset, length int64) error {
	if d.kept {
		return nil
	}
	err := d.fallocate(unix.FALLOC_FL_PUNCH_HOLE, offset, length)
	if cannot(err) {
		return nil
	}
	return err
}

// Zero punches a hole or has the filesystem note zeros, and writes them where neither can be done or NewFile was told so.
func (d *File) Zero(offset, length int64, how ZeroHow) error {
	if !d.kept {
		mode := uint32(unix.FALLOC_FL_PUNCH_HOLE)
		if how.Allocated {
			mode = unix.FALLOC_FL_ZERO_RANGE
		}
		if err := d.fallocate(mode, offset, length); !cannot(err) {
			return err
		}
	}
	if how.Fast {
		return ErrNotFast
	}
	for zeros := make([]byte, min(length, 1<<20)); length > 0; {
		n, err := d.f.WriteAt(zeros[:min(length, int64(len(zeros)))], offset)
		if err != nil {
			return err
		}
		offset, length = offset+int64(n), length-int64(n)
	}
	return nil
}

// cannot says that fallocate(2) does not do such a thing here: the filesystem has not got it, or a device only for whole sectors.
func cannot(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV)
}

func (d *File) fallocate(mode uint32, offset, length int64) error {
	defer d.known.Store(nil)
	err := sys.Do(func() error { return unix.Fallocate(int(d.f.Fd()), mode|unix.FALLOC_FL_KEEP_SIZE, offset, length) })
	if err != nil {
		return &os.PathError{Op: "fallocate", Path: d.f.Name(), Err: err}
	}
	return nil
}

// Extents tells of holes what the filesystem does; all of a device is data.
func (d *File) Extents(offset, length int64, most int) ([]Extent, error) {
	var extents []Extent
	for at, end := offset, offset+length; at < end && len(extents) < most; {
		from, to, err := d.data(at, end)
		if cannot(err) {
			from, to = at, end
		} else if err != nil {
			return nil, err
		}
		if from > at {
			extents = append(extents, Extent{Length: from - at, Hole: true, Zero: true})
			at = from
		}
		if to = min(to, end); to > at && len(extents) < most {
			extents = append(extents, Extent{Length: to - at})
			at = to
		}
	}
	return extents, nil
}

// data is the first stretch at or after a place that is no hole; from the end on if there is none before that. Looking for a hole
// takes time by what is in front of it, so the last answer is kept. It cannot do harm: what has become a hole since may be taken for
// data.
func (d *File) data(at, end int64) (from, to int64, err error) {
	if k := d.known.Load(); k != nil && k[0] <= at && at < k[1] {
		return at, k[1], nil
	}
	for {
		if from, err = d.f.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) || err == nil && from >= end {
			return end, end, nil
		}
		if err == nil {
			to, err = d.f.Seek(from, unix.SEEK_HOLE)
		}
		if err != nil {
			return 0, 0, err
		}
		if to > from { // else it was punched in between
			d.known.Store(&[2]int64{from, to})
			return from, to, nil
		}
	}
}
