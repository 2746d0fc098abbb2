package image

import (
	"io"
)

// Image is a disk, put together of the files that hold it. It is for one goroutine at a time.
type Image struct {
	format string
	size   int64
	layers []layer // from the top to the base
	files  []*file
	unpack unpacker
}

// Extent is a part of a disk.
type Extent struct {
	Length int64 // bytes
	Data   bool  // it may hold something else than zeros
}

// layer is what one file of a chain says of the disk.
type layer interface {
	// size is the size of the disk in bytes, as the layer has it: of what is behind that, it says that it is zeros.
	size() int64
	// at tells what the layer says of the disk from an offset below its size on: of at least one byte, and not of much more
	// than most, for it may take a step for each piece.
	at(offset, most int64) (span, error)
}

// span is a piece of a disk, of one kind.
type span struct {
	length int64
	kind   kind
	in     *file // which has the data
	host   int64 // where
	packed *packed
}

type kind uint8

const (
	absent kind = iota // the layer below knows
	zeros
	data
)

// Format is that of the topmost file: raw, qcow2, vhd or vmdk.
func (m *Image) Format() string { return m.format }

// Size is that of the disk, in bytes.
func (m *Image) Size() int64 { return m.size }

// Others are the paths of the files that were opened since the image, or one of them, names them.
func (m *Image) Others() (paths []string) {
	for _, f := range m.files[1:] {
		paths = append(paths, f.name)
	}
	return paths
}

// Close closes the files.
func (m *Image) Close() error {
	for _, f := range m.files {
		f.close()
	}
	return nil
}

// at is what the disk is like from an offset on.
func (m *Image) at(offset, most int64) (span, error) {
	length := m.size - offset
	for _, l := range m.layers {
		if offset >= l.size() {
			break
		}
		s, err := l.at(offset, min(most, length))
		if err != nil {
			return span{}, err
		}
		length = min(length, s.length, l.size()-offset)
		if s.kind != absent {
			s.length = length
			return s, nil
		}
	}
	return span{length: length, kind: zeros}, nil
}

// step is how much of a disk is looked at in one go, in bytes: each piece of it may be a step.
const step = 64 << 20

// Extent tells of the disk from an offset on whether there are data: of at least one byte.
func (m *Image) Extent(offset int64) (Extent, error) {
	if offset < 0 || offset >= m.size {
		return Extent{}, io.EOF
	}
	s, err := m.at(offset, step)
	return Extent{s.length, s.kind == data}, err
}

// ReadAt reads what a guest would: io.EOF is behind the end of the disk.
func (m *Image) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		at := offset + int64(n)
		if at < 0 || at >= m.size {
			return n, io.EOF
		}
		s, err := m.at(at, int64(len(p)-n))
		if err != nil {
			return n, err
		}
		piece := p[n : n+int(min(s.length, int64(len(p)-n)))]
		if err := m.read(piece, s); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// read reads the beginning of a span.
func (m *Image) read(p []byte, s span) error {
	switch {
	case s.kind != data:
		clear(p)
		return nil
	case s.packed != nil:
		whole, err := m.unpack.unpack(s)
		if err != nil {
			return err
		}
		copy(p, whole[s.packed.skip:])
		return nil
	}
	return s.in.data(p, s.host)
}
