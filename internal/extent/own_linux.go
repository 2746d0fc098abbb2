package extent

import (
	"cmp"
	"os"
	"slices"
)

// Own is an extent of btrfs of which a file has pieces and no other file has any. It takes its whole size as long
// as there is one of them, however small.
type Own struct {
	Disk   int64 // where it is
	Size   int64 // bytes that it takes
	Used   int64 // bytes that its pieces would take, were each in an extent of its own
	Bytes  int64 // that would have to be written for that
	Pieces []Piece
}

// Piece is a part of an extent in a file, in bytes.
type Piece struct {
	Start, Length int64 // in the file
	Offset        int64 // in the extent
	Unwritten     bool  // it reads as zeros, and has room
}

// piece is what of an Item has to be kept of each, of which there may be millions. An extent has at most
// 256 MiB.
type piece struct {
	disk, start                 int64
	size, whole, offset, length uint32
	kind                        ItemKind
}

// needs is what a length of the extent would take elsewhere. Compressed, that is what it takes here, at least
// a block.
func (p piece) needs(length int64) int64 {
	if p.kind != ItemCompressed || p.whole == 0 {
		return length
	}
	const block = 4096
	up := func(n, unit int64) int64 { return (n + unit - 1) / unit }
	return up(up(length*int64(p.size), int64(p.whole)), block) * block
}

// OwnOf lists the extents that a file on btrfs has alone and that have a piece in [from, to), by where they begin in
// it, with all their pieces there. An error that is no FIEMAP's is that the tree cannot be read. It takes
// some 100 bytes of memory for each piece.
func OwnOf(f *os.File, from, to int64) ([]Own, error) {
	pieces, err := alone(f, from, to, func(Extent) {})
	if err != nil {
		return nil, err
	}
	var all []Own
	for len(pieces) > 0 {
		of := pieces[:sameExtent(pieces)]
		pieces = pieces[len(of):]
		o := Own{Disk: of[0].disk, Size: int64(of[0].size)}
		for _, p := range of {
			o.Used += p.needs(int64(p.length))
			if p.kind != ItemUnwritten {
				o.Bytes += int64(p.length)
			}
			o.Pieces = append(o.Pieces, Piece{p.start, int64(p.length), int64(p.offset), p.kind == ItemUnwritten})
		}
		slices.SortFunc(o.Pieces, func(a, b Piece) int { return cmp.Compare(a.Start, b.Start) })
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b Own) int { return cmp.Compare(a.Pieces[0].Start, b.Pieces[0].Start) })
	return all, nil
}

// wholeUsage is UsageOf on btrfs, by extents. An error can be that the tree cannot be read.
func wholeUsage(f *os.File) (Usage, error) {
	var u Usage
	pieces, err := alone(f, 0, endOfFile, u.add)
	for len(pieces) > 0 {
		of := pieces[:sameExtent(pieces)]
		pieces = pieces[len(of):]
		size, shown, end := int64(of[0].size), int64(0), int64(0)
		for _, p := range of { // by their offsets; in one file several can be the same piece
			start, stop := int64(p.offset), int64(p.offset)+int64(p.length)
			shown += max(0, stop-max(start, end))
			end = max(end, stop)
		}
		u.GivesBack += size
		u.Pinned += max(0, size-of[0].needs(shown))
	}
	return u, err
}

// sameExtent is how many of the pieces, from the first on, are of its extent.
func sameExtent(pieces []piece) int {
	n := slices.IndexFunc(pieces, func(p piece) bool { return p.disk != pieces[0].disk })
	if n < 0 {
		return len(pieces)
	}
	return n
}

// endOfFile is after everything that a file can have.
const endOfFile = 1<<63 - 1

// alone lists the pieces of a file in [from, to) that are of an extent that no other file has a piece of, by
// extents, and in each by their offsets. Who shares them FIEMAP tells: of a whole extent, whichever piece it is asked about.
// see is called for what it tells.
func alone(f *os.File, from, to int64, see func(Extent)) (all []piece, err error) {
	fiemap := NewCursor(f, from)
	var now Extent
	there := true
	next := func() (err error) {
		if now, there, err = fiemap.Next(); there && err == nil {
			see(now)
		}
		return err
	}
	if err := next(); err != nil { // first: what is not yet on the disk gets its item by that
		return nil, err
	}
	items, err := NewItems(f, from)
	if err != nil {
		return nil, err
	}
	for {
		i, ok, err := items.Next()
		if err != nil {
			return nil, err
		}
		if !ok || i.Start >= to {
			break
		}
		if !i.Stored() {
			continue
		}
		for there && now.Logical+now.Length <= i.Start {
			if err := next(); err != nil {
				return nil, err
			}
		}
		if !there || now.Logical > i.Start || now.Shared() {
			continue // shared, or written to meanwhile
		}
		all = append(all, piece{i.Disk, i.Start, uint32(i.DiskLength), uint32(i.Whole), uint32(i.Offset), uint32(i.Length), i.Kind}) // #nosec G115 -- of an extent
	}
	for there && to == endOfFile { // what is in no item any more, or in none with an extent
		if err := next(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.disk, b.disk), cmp.Compare(a.offset, b.offset))
	})
	return all, nil
}
