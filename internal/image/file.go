package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// file is one of the files of an image. Of its tables some pages are kept.
type file struct {
	io.ReaderAt
	name  string   // what errors call it
	path  string   // its directory is where the files are that it names; "" if it may name none
	below string   // that directory, relative to the one of the image that was asked for
	id    string   // the same for no other file
	size  int64    // bytes
	holes *os.File // can be asked for holes; else nil
	close func() error
	pages [16]struct {
		at   int64 // where it begins, plus 1: 0 if it has none
		data []byte
	}
}

// pageSize is how much of a table is read at once, in bytes. No entry of a table is on two pages.
const pageSize = 4096

// bad refuses the file, for what it has at a byte.
func (f *file) bad(at int64, format string, args ...any) error {
	return fault.Errorf(fault.ErrInvalid, f.name, "%s cannot be read as an image: at byte %d, %w", f.name, at, fmt.Errorf(format, args...))
}

// has refuses what is not within the file.
func (f *file) has(at, length int64) bool {
	return at >= 0 && length >= 0 && at <= f.size && length <= f.size-at
}

// bytes reads so many bytes, of which all must be there. said is where the file says that they are, what is what they are.
func (f *file) bytes(at int64, length int, said int64, what string) ([]byte, error) {
	if !f.has(at, int64(length)) {
		return nil, f.bad(said, "%s ends at byte %d, and the file at %d", what, uint64(at)+uint64(length), f.size)
	}
	p := make([]byte, length)
	if err := f.data(p, at); err != nil {
		return nil, err
	}
	return p, nil
}

// entry is an entry of a table, which does not cross a page, and is valid until the next one is asked for.
func (f *file) entry(at int64, length int) ([]byte, error) {
	if !f.has(at, int64(length)) {
		return nil, f.bad(at, "an entry of a table is behind the end of the file, which has %d bytes", f.size)
	}
	begin := at &^ (pageSize - 1)
	page := &f.pages[begin/pageSize%int64(len(f.pages))]
	if page.at != begin+1 {
		if page.data == nil {
			page.data = make([]byte, pageSize)
		}
		page.at = 0
		if err := f.data(page.data, begin); err != nil {
			return nil, err
		}
		page.at = begin + 1
	}
	return page.data[at-begin:][:length], nil
}

func (f *file) big64(at int64) (uint64, error) {
	p, err := f.entry(at, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p), nil
}

// data reads what begins within the file: behind its end there are zeros, as where a writer did not write the end of a cluster.
func (f *file) data(p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		err = nil
	}
	if err != nil {
		return fmt.Errorf("reading %s at byte %d: %w", f.name, at, err)
	}
	return nil
}

// plain is a span of what the file holds as it is, of which holes are zeros.
func (f *file) plain(at, length int64) (span, error) {
	if at >= f.size {
		return span{length: length, kind: zeros}, nil
	}
	s := span{length: length, kind: data, in: f, host: at}
	if f.holes == nil {
		return s, nil
	}
	begin, err := f.holes.Seek(at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole follows
		return span{length: length, kind: zeros}, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // a block device does not tell
		f.holes = nil
		return s, nil
	case err != nil:
		return span{}, err
	case begin > at:
		return span{length: min(length, begin-at), kind: zeros}, nil
	}
	end, err := f.holes.Seek(at, unix.SEEK_HOLE)
	if err != nil {
		return span{}, err
	}
	if end > at { // else it has become one
		s.length = min(length, end-at)
	}
	return s, nil
}
