package precopy

import (
	"errors"
	"time"

	"reflinksr/internal/extent"
)

// relative makes dirty what the disk may have in another place than the clone, which is one of an earlier
// state. What is written from here on is told by the trace.
func (t *taker) relative() error {
	// What was written before the trace began is where the filesystem says, once that has
	// written it out.
	if err := errors.Join(t.writeOutAll(), extent.AskForOne(t.disk.File)); err != nil {
		return err
	}
	disk, base := places{cursor: extent.NewCursorAsIs(t.disk.File, 0), btrfs: t.btrfs}, places{cursor: extent.NewCursor(t.dst, 0), btrfs: t.btrfs}
	for at, n := int64(0), 0; at < t.size; n++ {
		d, err := disk.at(at)
		if err != nil {
			return err
		}
		b, err := base.at(at)
		if err != nil {
			return err
		}
		end := min(t.size, d.end, b.end)
		if d.vague || b.vague || d.where != b.where || d.unwritten != b.unwritten {
			t.rounds.dirty.Set(at/t.block, (end+t.block-1)/t.block)
		}
		t.progress(at, end)
		if at = end; n%512 == 0 {
			busy, err := t.rounds.follow()
			if err != nil {
				return err
			}
			if busy {
				time.Sleep(pieceTime / pauseShare)
			}
		}
	}
	t.result.Differ = t.rounds.dirty.Len()
	return nil
}

// place is where a file's bytes up to an end are.
type place struct {
	end   int64
	where int64 // on the filesystem, less the offset in the file
	vague bool  // that says nothing

	unwritten bool // they are zeros, for which there is room
}

// hole is where zeros are.
const hole = -1 << 62

// places tells where the bytes of a file are, in order.
type places struct {
	cursor extent.Cursor
	btrfs  bool
	next   extent.Extent
	read   bool // next is one
	over   bool // there are no more
}

// at is where the bytes from an offset on are. Offsets only grow.
func (p *places) at(offset int64) (place, error) {
	for !p.over && (!p.read || p.next.Logical+p.next.Length <= offset) {
		e, ok, err := p.cursor.Next()
		if err != nil {
			return place{}, err
		}
		p.next, p.read, p.over = e, ok, !ok
	}
	switch e := p.next; {
	case p.over:
		return place{end: 1<<63 - 1, where: hole}, nil
	case offset < e.Logical:
		return place{end: e.Logical, where: hole}, nil
	case e.Vague():
		return place{end: e.Logical + e.Length, vague: true}, nil
	case e.Unwritten() && !p.btrfs: // XFS makes a hole of it in a clone
		return place{end: e.Logical + e.Length, where: hole}, nil
	default:
		return place{end: e.Logical + e.Length, where: e.Physical - e.Logical, unwritten: e.Unwritten()}, nil
	}
}
