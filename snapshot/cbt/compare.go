package cbt

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"slices"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/units"
	"reflinksr/sr"
	"reflinksr/volume"
)

// BlockList is what the protocol calls blocklist: ranges of blocks, in order.
type BlockList struct {
	BlockSize int64      `json:"blocksize"` // bytes
	Ranges    [][2]int64 `json:"ranges"`    // first block, number of blocks
}

// rangeLimit bounds how many ranges a BlockList has. More of them are told in larger
// blocks.
const rangeLimit = 1 << 20

// add adds the blocks of a range of bytes. Ranges come in order.
func (l *BlockList) add(start, end int64) {
	first, last := start/l.BlockSize, (end-1)/l.BlockSize
	n := len(l.Ranges)
	if n > 0 && l.Ranges[n-1][0]+l.Ranges[n-1][1] >= first {
		l.Ranges[n-1][1] = last + 1 - l.Ranges[n-1][0]
		return
	}
	l.Ranges = append(l.Ranges, [2]int64{first, last + 1 - first})
	for len(l.Ranges) >= rangeLimit {
		l.coarsen()
	}
}

// coarsen doubles the blocks.
func (l *BlockList) coarsen() {
	fine := *l
	l.BlockSize, l.Ranges = 2*fine.BlockSize, fine.Ranges[:0]
	for _, r := range fine.Ranges {
		l.add(r[0]*fine.BlockSize, (r[0]+r[1])*fine.BlockSize)
	}
}

// Compare tells which blocks may differ between two volumes of an SR, the end of the
// longer one included. If the second is no relative of the first, or is not there ("" never is), that
// is what is not empty in the first.
func Compare(ctx context.Context, handle string, a, b sr.Key) (BlockList, error) {
	list := BlockList{BlockSize: volume.SizeUnit, Ranges: [][2]int64{}}
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return list, err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return list, err
	}
	p, err := openWhole(s, a, cmp.Or(b, a))
	if errors.Is(err, fault.ErrVolumeNotFound) {
		p, err = openWhole(s, a, a) // then the second is not there, or now the first is not
	}
	if err != nil {
		return list, err
	}
	defer p.close()
	if a == b {
		return list, nil
	}
	related, err := p.related()
	if err != nil {
		return list, err
	}
	if related && p.b != p.a {
		err = p.differences(ctx, 0, max(p.a.size, p.b.size), list.add)
		return list, err
	}
	if err := p.a.record.MustHaveData(a); err != nil {
		return list, err
	}
	return list, contents(ctx, p.a, list.add)
}

// contents tells what is not empty in a disk.
func contents(ctx context.Context, d *disk, add func(start, end int64)) error {
	w := walker{cursor: d.from(0)}
	for at := int64(0); at < d.size; {
		g, err := w.at(at)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if g.what != hole {
			add(at, g.end)
		}
		at = g.end
	}
	return nil
}

// pair is two volumes of an SR, locked and open.
type pair struct {
	s      *sr.SR
	a, b   *disk
	unlock func()
}

// openWhole is openPair of volumes that are not on their way from elsewhere.
func openWhole(s *sr.SR, a, b sr.Key) (_ *pair, err error) {
	p, err := openPair(s, a, b)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(volume.MustBeWhole(s, a), volume.MustBeWhole(s, b)); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func openPair(s *sr.SR, a, b sr.Key) (_ *pair, err error) {
	p := &pair{s: s}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.unlock, err = lockToCompare(s, a, b); err != nil {
		return p, err
	}
	if p.a, err = openDisk(s, a); err != nil {
		return p, err
	}
	if a == b {
		p.b = p.a
		return p, nil
	}
	p.b, err = openDisk(s, b)
	return p, err
}

func (p *pair) close() {
	p.a.close()
	p.b.close()
	if p.unlock != nil {
		p.unlock()
	}
}

// lockToCompare keeps two volumes, and what is known of those whose data was
// destroyed, from being changed.
func lockToCompare(s *sr.SR, keys ...sr.Key) (unlock func(), err error) {
	var held []*dirfs.Lock
	unlock = func() {
		for _, l := range slices.Backward(held) {
			l.Unlock()
		}
	}
	l, err := s.LockCBT(dirfs.Shared, false)
	if err != nil {
		return nil, err
	}
	held = append(held, l)
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		l, err := s.LockVolume(k, dirfs.Shared)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, l)
	}
	return unlock, nil
}

// related says whether the two come from one volume, by their records or by what they
// share.
func (p *pair) related() (bool, error) {
	if p.a == p.b {
		return true, nil
	}
	a, err := ancestry(p.s, p.a.key)
	if err != nil {
		return false, err
	}
	b, err := ancestry(p.s, p.b.key)
	if err != nil || kin(a, b) {
		return err == nil, err
	}
	found := false
	err = together(p.a.from(0), p.b.from(0), 0, min(p.a.size, p.b.size), func(_, _ int64, x, y segment) bool {
		found = x.what == stored && same(x, y)
		return !found
	})
	return found, err
}

// differences tells the ranges of bytes of [from, to) in which the two may differ, in
// order. Ranges that touch can come as several.
func (p *pair) differences(ctx context.Context, from, to int64, add func(start, end int64)) error {
	err := together(p.a.from(from), p.b.from(from), from, to, func(start, end int64, x, y segment) bool {
		if !same(x, y) {
			add(start, end)
		}
		return ctx.Err() == nil
	})
	return cmp.Or(err, context.Cause(ctx))
}

// ChangedBlocks is what the protocol calls changed_blocks.
type ChangedBlocks struct {
	Granularity int64  `json:"granularity"` // bytes a bit
	Bitmap      string `json:"bitmap"`      // base64; the most significant bit comes first
}

// bitmapLimit bounds the bitmap of one answer, in bytes: 64 TiB of a disk.
const bitmapLimit = 128 << 20

// ListChangedBlocks tells which blocks of the volume b may differ from those of a,
// from the block of the byte offset on. A length of -1 is to the end of b. What b
// is longer than a has changed.
func ListChangedBlocks(ctx context.Context, handle string, a, b sr.Key, offset, length int64) (ChangedBlocks, error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return ChangedBlocks{}, err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return ChangedBlocks{}, err
	}
	p, err := openWhole(s, a, b)
	if err != nil {
		return ChangedBlocks{}, err
	}
	defer p.close()
	for _, d := range []*disk{p.a, p.b} {
		if !d.record.CBT {
			return ChangedBlocks{}, fault.Hint(fault.Errorf(fault.ErrNoCBT, string(d.key), "volume %s: changed block tracking was not enabled for it", d.key),
				"enable it before the next snapshot, or compare the volumes, which needs none")
		}
	}
	first, count, err := window(p.b, offset, length)
	if err != nil {
		return ChangedBlocks{}, err
	}
	related, err := p.related()
	if err == nil && !related {
		err = fault.Hint(fault.Errorf(fault.ErrUnrelated, string(b), "volumes %s and %s do not come from one volume", a, b),
			"make a full backup")
	}
	bits := make([]byte, bitmapLength(count))
	if err == nil && p.a != p.b {
		bits, err = changedBits(first, count, p.a.size, p.b.size, func(from, to int64, add func(start, end int64)) error {
			return p.differences(ctx, from, to, add)
		})
	}
	return ChangedBlocks{Granularity: granularity, Bitmap: base64.StdEncoding.EncodeToString(bits)}, err
}

// changedBits is the bitmap of count blocks from first on of a disk of newSize bytes, that was of oldSize, where differences
// tells ranges of bytes in which the two differ.
//
// Of a block in which one of them ends, the other has more. That counts as a change
// whatever it is: of destroyed data it is not known.
func changedBits(first, count, oldSize, newSize int64, differences func(from, to int64, add func(start, end int64)) error) ([]byte, error) {
	bits := make([]byte, bitmapLength(count))
	err := differences(first*granularity, min((first+count)*granularity, newSize), func(start, end int64) {
		mark(bits, start/granularity-first, (end-1)/granularity-first)
	})
	if end := min(oldSize, newSize); oldSize != newSize && end%granularity != 0 {
		if last := end/granularity - first; last >= 0 && last < count {
			mark(bits, last, last)
		}
	}
	return bits, err
}

// bitmapLength is how many bytes tell of count blocks: whole words of 32 bits. Xen Orchestra reads them as such, and where the last one is cut
// off makes a full backup instead. What is beyond the disk has not changed.
func bitmapLength(count int64) int64 { return (count + 31) / 32 * 4 }

// window is the blocks of a disk that hold a range of bytes.
func window(d *disk, offset, length int64) (first, count int64, err error) {
	switch {
	case offset < 0:
		return 0, 0, fault.Errorf(fault.ErrSize, "offset", "the offset is %d, it must not be negative", offset)
	case length < -1:
		return 0, 0, fault.Errorf(fault.ErrSize, "length", "the length is %d, it must be -1 (to the end) or not negative", length)
	case offset > d.size:
		return 0, 0, fault.Errorf(fault.ErrSize, "offset", "the offset is %d, but volume %s has %d bytes", offset, d.key, d.size)
	case length == -1:
		length = d.size - offset
	case length > d.size-offset:
		return 0, 0, fault.Errorf(fault.ErrSize, "length", "the length is %d, but volume %s has %d bytes from offset %d on", length, d.key, d.size-offset, offset)
	}
	if length == 0 {
		return offset / granularity, 0, nil
	}
	first = offset / granularity
	count = (offset+length-1)/granularity + 1 - first
	if bitmapLength(count) > bitmapLimit {
		return 0, 0, fault.Hint(fault.Errorf(fault.ErrSize, "length", "the length is %d: at most %s can be told of at once", length, units.Bytes(bitmapLimit*8*granularity)),
			"ask for parts")
	}
	return first, count, nil
}

// mark sets the bits first to last of a bitmap, the most significant one being the first.
func mark(bits []byte, first, last int64) {
	for ; first <= last && first%8 != 0; first++ {
		bits[first/8] |= 0x80 >> (first % 8)
	}
	for ; first+7 <= last; first += 8 {
		bits[first/8] = 0xff
	}
	for ; first <= last; first++ {
		bits[first/8] |= 0x80 >> (first % 8)
	}
}
