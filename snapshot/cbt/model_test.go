package cbt

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"

	"reflinksr/sr"
	"reflinksr/volume"
)

// modelDisk is what a volume must be.
type modelDisk struct {
	key       sr.Key
	name      string // for people
	bytes     []byte // what it holds, or held before its data was destroyed
	writable  bool
	cbt       bool
	destroyed bool // its data
	origin    sr.Key
	changed   int // the operation after which bytes was last written to

	device *device // nil: not attached
}

func (d *modelDisk) String() string { return d.name }

// living says whether it can be asked for its bytes.
func (d *modelDisk) living() bool { return !d.destroyed }
func (d *modelDisk) idle() bool   { return d.device == nil }

// pick answers one of the disks that fit, or nil.
func pick(r *rand.Rand, disks []*modelDisk, fits ...func(*modelDisk) bool) *modelDisk {
	var found []*modelDisk
	for _, d := range disks {
		if !slices.ContainsFunc(fits, func(f func(*modelDisk) bool) bool { return !f(d) }) {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[r.IntN(len(found))]
}

// at answers the bytes of a range of a disk; what is after the end is missing.
func at(b []byte, start, end int64) []byte {
	n := int64(len(b))
	return b[min(start, n):min(end, n)]
}

// seen counts what was compared.
type seen struct {
	comparisons int
	blocks      int64 // compared
	differ      int64 // of them
	over        int64 // of them: reported, and equal
}

func (s seen) String() string {
	share := func(part, of int64) float64 { return 100 * float64(part) / float64(max(of, 1)) }
	return fmt.Sprintf("%d comparisons of %d blocks: %.1f %% differ, 0 under-reports, over-reports %.2f %% (of equal blocks %.2f %%)",
		s.comparisons, s.blocks, share(s.differ, s.blocks), share(s.over, s.blocks), share(s.over, s.blocks-s.differ))
}

// judgeBitmap says what is wrong with an answer to list_changed_blocks about the blocks
// first to first+count of b. Without a, all of b has changed.
func (s *seen) judgeBitmap(c ChangedBlocks, a, b *modelDisk, first, count int64) error {
	if c.Granularity != granularity {
		return fmt.Errorf("the granularity is %d", c.Granularity)
	}
	bits, err := base64.StdEncoding.DecodeString(c.Bitmap)
	if err != nil {
		return err
	}
	if int64(len(bits)) != (count+31)/32*4 {
		return fmt.Errorf("%d bytes of bitmap for %d blocks", len(bits), count)
	}
	s.comparisons++
	for i := range int64(len(bits)) * 8 {
		reported := bits[i/8]&(0x80>>(i%8)) != 0
		if i >= count {
			if reported {
				return fmt.Errorf("bit %d is set, after the last block", i)
			}
			continue
		}
		start := (first + i) * granularity
		end := min(start+granularity, int64(len(b.bytes)))
		differs := !bytes.Equal(at(a.bytes, start, end), at(b.bytes, start, end))
		switch {
		case differs && !reported:
			return fmt.Errorf("UNDER-REPORT: block %d differs between %s and %s from byte %d on, and is not reported", first+i, a, b, start+firstDifference(at(a.bytes, start, end), at(b.bytes, start, end)))
		case reported && !differs:
			s.over++
		}
		s.blocks++
		if differs {
			s.differ++
		}
	}
	return nil
}

func firstDifference(a, b []byte) int64 {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(min(len(a), len(b)))
}

// judgeList says what is wrong with an answer to compare: a block for which must is true
// and that is not told of, or ranges that are not in order or beyond size.
func judgeList(l BlockList, size int64, must func(start, end int64) bool) error {
	if l.BlockSize < volume.SizeUnit || l.BlockSize%volume.SizeUnit != 0 {
		return fmt.Errorf("blocks of %d bytes", l.BlockSize)
	}
	blocks := (size + l.BlockSize - 1) / l.BlockSize
	told := make([]bool, blocks)
	next := int64(0)
	for i, r := range l.Ranges {
		if r[0] < next || i > 0 && r[0] == next || r[1] <= 0 || r[0]+r[1] > blocks {
			return fmt.Errorf("range %d is %v after block %d; there are %d", i, r, next, blocks)
		}
		next = r[0] + r[1]
		for b := r[0]; b < next; b++ {
			told[b] = true
		}
	}
	for b, ok := range told {
		if start := int64(b) * l.BlockSize; !ok && must(start, min(start+l.BlockSize, size)) {
			return fmt.Errorf("UNDER-REPORT: the block at byte %d is not told of", start)
		}
	}
	return nil
}

// differ answers what compare must tell of two relatives.
func differ(a, b []byte) func(start, end int64) bool {
	return func(start, end int64) bool { return !bytes.Equal(at(a, start, end), at(b, start, end)) }
}

// full answers what compare must tell of a disk alone.
func full(a []byte) func(start, end int64) bool {
	return func(start, end int64) bool {
		return slices.ContainsFunc(at(a, start, end), func(c byte) bool { return c != 0 })
	}
}
