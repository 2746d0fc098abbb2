package scripts

import (
	"encoding/base64"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"reflinksr/internal/smapi"
)

// piece is the length in bytes of the blocks that Volume.list_changed_blocks tells of.
const piece = 64 << 10

// pieces are what a disk holds, piece by piece.
type pieces struct {
	size int64
	sums []uint64
	part []byte // of the next one
}

var pieceSeed = maphash.MakeSeed()

func (p *pieces) Write(b []byte) (int, error) {
	p.size += int64(len(b))
	p.part = append(p.part, b...)
	for len(p.part) >= piece {
		p.sums = append(p.sums, maphash.Bytes(pieceSeed, p.part[:piece]))
		p.part = p.part[:copy(p.part, p.part[piece:])]
	}
	return len(b), nil
}

// at is the sum of piece i: of what there is of it before the disk's end.
func (p *pieces) at(i int64) uint64 {
	switch n := int64(len(p.sums)); {
	case i < n:
		return p.sums[i]
	case i == n && len(p.part) > 0:
		return maphash.Bytes(pieceSeed, p.part)
	}
	return 0
}

// pieces reads a disk, or remembers what it held when it still had data.
func (s *script) pieces(key string) (*pieces, error) {
	v, err := s.stat(key)
	if err != nil {
		return nil, err
	}
	if v.VolumeType == smapi.CBTMetadata {
		if s.remembered[key] == nil {
			return nil, fmt.Errorf("%s has no data any more, and there was no sum of it before", key)
		}
		return s.remembered[key], nil
	}
	p := new(pieces)
	_, err = s.contents(key, 0, p)
	return p, err
}

// window is a range of bytes.
type window struct{ start, length int64 }

func (w window) overlaps(start, end int64) bool { return w.start < end && start < w.start+w.length }

// parseWindows reads ranges like 1MiB+64KiB.
func parseWindows(args []string) (all []window, err error) {
	for _, arg := range args {
		start, length, ok := strings.Cut(arg, "+")
		if !ok {
			return nil, fmt.Errorf("%q is no range: want one like 1MiB+64KiB", arg)
		}
		var w window
		if w.start, w.length, err = parseRange(start, length); err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// pair takes the words exactly, A and B from the arguments of a verb.
func pair(args []string) (exactly bool, a, b string, rest []string, ok bool) {
	if len(args) > 0 && args[0] == "exactly" {
		exactly, args = true, args[1:]
	}
	if len(args) < 2 {
		return false, "", "", nil, false
	}
	return exactly, args[0], args[1], args[2:], true
}

// changed holds an answer of Volume.list_changed_blocks against what the two disks hold.
func (s *script) changed(_ bool, args []string) error {
	exactly, a, b, args, ok := pair(args)
	if !ok {
		return usage("changed")
	}
	offset, length := int64(0), int64(-1)
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		if !ok {
			break
		}
		n, err := ParseBytes(value)
		switch {
		case err != nil:
			return err
		case name == "offset":
			offset = n
		case name == "length":
			length = n
		default:
			return usage("changed")
		}
		args = args[1:]
	}
	ranges, err := parseWindows(args)
	if err != nil {
		return err
	}
	// Read before the call: what is acknowledged meanwhile may be missing here, not there.
	was, err := s.pieces(a)
	if err != nil {
		return err
	}
	is, err := s.pieces(b)
	if err != nil {
		return err
	}
	answer, err := ask(s, smapi.VolumeListChangedBlocks{SR: s.ts.Getenv("SR"), Key: a, Key2: b, Offset: offset, Length: length})
	if err != nil {
		return err
	}
	if length < 0 {
		length = is.size - offset
	}
	bits, _ := base64.StdEncoding.DecodeString(string(answer.Bitmap))
	reported := func(i int64) bool { return bits[i/8]&(0x80>>(i%8)) != 0 }
	first, count := offset/piece, int64(0)
	if length > 0 {
		count = (offset+length-1)/piece + 1 - first
	}
	// Whole words, as backup clients read it, have up to 31 bits more.
	if want := (count + 7) / 8; int64(len(bits)) < want || exactly && int64(len(bits)) > (count+31)/32*4 {
		return fmt.Errorf("the bitmap has %d bytes, want %d for %d blocks", len(bits), want, count)
	}
	for i := range int64(len(bits)) * 8 {
		start := (first + i) * piece
		end := min(start+piece, is.size)
		listed := slices.ContainsFunc(ranges, func(w window) bool { return w.overlaps(start, end) })
		goesOn := was.size > is.size && end%piece != 0 // A does, within B's last block
		differs := !goesOn && was.at(first+i) != is.at(first+i)
		switch {
		case i < count && differs && !reported(i):
			return fmt.Errorf("the two hold different bytes in block %d, %d+%d, and it is not reported", first+i, start, piece)
		case i < count && listed && !reported(i):
			return fmt.Errorf("block %d, %d+%d, is not reported", first+i, start, piece)
		case exactly && reported(i) && !(i < count && listed):
			return fmt.Errorf("block %d, %d+%d, is reported", first+i, start, piece)
		}
	}
	return nil
}

// compared holds an answer of Volume.compare against ranges.
func (s *script) compared(_ bool, args []string) error {
	exactly, a, b, args, ok := pair(args)
	if !ok {
		return usage("compared")
	}
	ranges, err := parseWindows(args)
	if err != nil {
		return err
	}
	list, err := ask(s, smapi.VolumeCompare{SR: s.ts.Getenv("SR"), Key: a, Key2: b})
	if err != nil {
		return err
	}
	var told []window
	for _, r := range list.Ranges {
		told = append(told, window{r[0] * list.BlockSize, r[1] * list.BlockSize})
	}
	if start, ok := uncovered(ranges, told, 1); !ok {
		return fmt.Errorf("byte %d is not in the answer: %s", start, shorten([]byte(encode(s.last))))
	}
	if start, ok := uncovered(told, ranges, list.BlockSize); exactly && !ok {
		return fmt.Errorf("byte %d should not be in the answer: %s", start, shorten([]byte(encode(s.last))))
	}
	return nil
}

// uncovered finds the first byte of all that is in none of by, were those widened to
// whole blocks; ok if there is none.
func uncovered(all, by []window, block int64) (at int64, ok bool) {
	for _, w := range all {
		for at := w.start; at < w.start+w.length; {
			next := at
			for _, c := range by {
				start, end := c.start/block*block, (c.start+c.length+block-1)/block*block
				if start <= at && at < end {
					next = max(next, end)
				}
			}
			if next == at {
				return at, false
			}
			at = next
		}
	}
	return 0, true
}
