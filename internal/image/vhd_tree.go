package image

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"time"

	"reflinksr/internal/fault"
)

// VHD is one file of a tree of VHDs, without those below it.
type VHD struct {
	ID      string    // the identity in its footer, as a UUID
	Parent  string    // that of the file that it is the difference to: "" of none
	Names   []string  // by which it names that, as paths
	Size    int64     // of the disk, in bytes
	Hidden  bool      // no disk of its own, only what others are the difference to (vhd-util's flag)
	Written time.Time // when its footer says that it was
	Footer  [vhdFooter]byte

	f *file
	l layer
}

// vhdHidden is where vhd-util notes in the footer that it is a base copy.
const vhdHidden = 85

// vhdEpoch is what its times are counted from, in seconds of Unix time: the beginning of 2000.
const vhdEpoch = 946684800

// OpenVHD reads what an open VHD tells of itself, which stays the caller's.
func OpenVHD(in *os.File, name string) (*VHD, error) {
	f, err := fileOf(in, name)
	if err != nil {
		return nil, err
	}
	foot, at, err := footer(f)
	if err != nil {
		return nil, err
	}
	if at == 0 && f.size > vhdFooter {
		return nil, fault.Hint(f.bad(max(0, f.size-vhdFooter), "there is no footer with a right checksum, only its copy at byte 0: its writer was interrupted"),
			"vhd-util repair -n mends it")
	}
	l, v, err := openVHD(f)
	if err != nil {
		return nil, err
	}
	if l.size() == 0 {
		return nil, f.bad(at+48, "the disk is empty")
	}
	d := &VHD{ID: uuidText(foot[68:84]), Size: l.size(), Hidden: foot[vhdHidden] != 0, f: f, l: l,
		Written: time.Unix(vhdEpoch+int64(binary.BigEndian.Uint32(foot[24:])), 0).UTC()}
	copy(d.Footer[:], foot)
	if v.missed == absent && v.block > 0 {
		d.Parent, d.Names = uuidText(v.nested.id), v.nested.names
	}
	return d, nil
}

// Bad refuses the file for what it has at the place where it names its parent.
func (d *VHD) Bad(format string, args ...any) error {
	at := int64(0)
	if v, is := d.l.(*vhd); is {
		at = v.nested.said
	}
	return d.f.bad(at, format, args...)
}

// mostBlocks bounds the blocks of a file whose places are looked at, all at once: 16 TiB of them, of the usual size.
const mostBlocks = 8 << 20

// Check refuses a table of blocks in which two have the same place, or overlap: one of them holds what is not its own.
func (d *VHD) Check(ctx context.Context) error {
	v, is := d.l.(*vhd)
	if !is {
		return nil
	}
	var begins []uint32
	for index := int64(0); index*v.block < v.disk; index++ {
		if index%(1<<16) == 0 && context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		begin, err := v.where(index)
		if err != nil {
			return err
		}
		if begin == 0 {
			continue
		}
		if len(begins) == mostBlocks {
			return v.f.bad(v.table+4*index, "the table of blocks has more than %d of them, which are not looked at", mostBlocks)
		}
		begins = append(begins, uint32(begin/sectorSize)) // #nosec G115 -- as it is in the table
	}
	slices.Sort(begins)
	for i, begin := range begins[:max(0, len(begins)-1)] {
		if int64(begins[i+1]-begin)*sectorSize < v.bitmap+v.block {
			return v.f.bad(v.table, "the table of blocks has two that overlap, at byte %d and at byte %d", int64(begin)*sectorSize, int64(begins[i+1])*sectorSize)
		}
	}
	return nil
}

// Own calls do with the pieces of the disk that this file itself holds, in order. Of what is behind it the file says nothing.
func (d *VHD) Own(ctx context.Context, do func(at, length int64) error) error {
	begin, end := int64(0), int64(0)
	err := d.own(ctx, func(at int64, s span) error {
		if at != end && end > begin {
			if err := do(begin, end-begin); err != nil {
				return err
			}
		}
		if at != end {
			begin = at
		}
		end = at + s.length
		return nil
	})
	if err == nil && end > begin {
		err = do(begin, end-begin)
	}
	return err
}

func (d *VHD) own(ctx context.Context, do func(at int64, s span) error) error {
	for at := int64(0); at < d.Size; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s, err := d.l.at(at, step)
		if err != nil {
			return err
		}
		s.length = min(s.length, d.Size-at)
		if s.kind == data {
			if err := do(at, s); err != nil {
				return err
			}
		}
		at += s.length
	}
	return nil
}

// Patch takes changes of a disk.
type Patch interface {
	io.WriterAt
	ZeroAt(at, n int64) error // n bytes of zeros
}

// CopyOwn gives a disk that holds what the parent does what this file itself holds, until ctx ends. moved is told how many bytes
// that were, piece by piece.
func (d *VHD) CopyOwn(ctx context.Context, to Patch, moved func(n int64)) error {
	begin, end := int64(0), int64(0) // of what is gathered
	g := gathering{ctx: ctx, give: func(piece []byte) error {
		c := copying{to: &patching{to, begin}, at: begin}
		err := c.give(piece)
		moved(int64(len(piece)))
		begin += int64(len(piece))
		return err
	}}
	err := d.own(ctx, func(at int64, s span) error {
		if at != end {
			if err := g.flush(); err != nil {
				return err
			}
			begin = at
		}
		end = at + s.length
		return g.add(s, func(p []byte, s span) error { return s.in.data(p, s.host) })
	})
	if err == nil {
		err = g.flush()
	}
	return err
}

// patching is a sink that has a place in a disk.
type patching struct {
	to Patch
	at int64
}

func (p *patching) Write(b []byte) (int, error) {
	n, err := p.to.WriteAt(b, p.at)
	p.at += int64(n)
	return n, err
}

func (p *patching) Zeros(n int64) error {
	err := p.to.ZeroAt(p.at, n)
	p.at += n
	return err
}

func (p *patching) End() error { return nil }

// OpenChain puts a disk together of open VHDs, the topmost first, of which each is the difference to the next. They stay the
// caller's.
func OpenChain(files []*os.File) (*Image, error) {
	m := &Image{format: "vhd"}
	var above *vhd
	for i, in := range files {
		f, err := fileOf(in, in.Name())
		if err != nil {
			return nil, err
		}
		f.close = func() error { return nil }
		if above != nil {
			if err := above.nested.isParent(f); err != nil {
				return nil, err
			}
		}
		l, v, err := openVHD(f)
		if err != nil {
			return nil, err
		}
		if more := v.missed == absent && v.block > 0; more != (i+1 < len(files)) {
			return nil, f.bad(0, "it is the difference to another VHD, or is not, as it was not before")
		}
		m.files, m.layers, above = append(m.files, f), append(m.layers, l), v
	}
	m.size = m.layers[0].size()
	return m, nil
}

// Reading is what a disk that was made of an image holds.
type Reading interface {
	io.ReaderAt
	EachData(from, to int64, do func(from, to int64) error) error // what is not known to be zeros
}

// Compare refuses a disk that does not hold byte by byte what the image does, and zeros behind it up to its size, until ctx ends.
// moved is told how many bytes were read of the image, piece by piece.
func (m *Image) Compare(ctx context.Context, with Reading, size int64, moved func(n int64)) error {
	ours, theirs := make([]byte, pieceSize), make([]byte, pieceSize)
	piece := func(from, to int64, data bool) error {
		for from < to {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			a, b := ours[:min(to-from, pieceSize)], theirs[:min(to-from, pieceSize)]
			clear(a)
			if data {
				if _, err := m.ReadAt(a, from); err != nil {
					return err
				}
				moved(int64(len(a)))
			}
			if _, err := io.ReadFull(io.NewSectionReader(with, from, int64(len(b))), b); err != nil {
				return err
			}
			if i := firstDifference(a, b); i >= 0 {
				return fault.Errorf(fault.ErrDamaged, m.files[0].name, "%s has another byte at %d of the disk than what was made of it", m.files[0].name, from+int64(i))
			}
			from += int64(len(a))
		}
		return nil
	}
	zeros := func(from, to int64) error {
		return with.EachData(from, to, func(from, to int64) error { return piece(from, to, false) })
	}
	from, to := int64(0), int64(0) // of data that follow one another
	err := m.each(ctx, func(at int64, s span) error {
		if s.kind == data {
			if at != to {
				from = at
			}
			if to = at + s.length; to-from < pieceSize {
				return nil
			}
			err := piece(from, to, true)
			from = to
			return err
		}
		if err := piece(from, to, true); err != nil {
			return err
		}
		from, to = at, at
		return zeros(at, at+s.length)
	})
	if err == nil {
		err = piece(from, to, true)
	}
	if err == nil {
		err = zeros(m.size, size)
	}
	return err
}

func firstDifference(a, b []byte) int {
	if string(a) == string(b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
