package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/internal/units"
	"reflinksr/sr"
)

// Compaction is what it costs and brings to compact a volume, or has.
type Compaction struct {
	Filesystem string // its kind. Only btrfs keeps what nobody has any more
	Extents    int    // that are of this volume alone, and are rewritten
	Writes     int64  // bytes
	Needs      int64  // bytes that have to be free, at a time
	GivesBack  int64  // bytes, when all is done

	// Of extents that it does not pay to rewrite:
	Kept, KeptWrites int64 // bytes that they keep, and that would have to be written
}

// roundSize is about how much is rewritten at a time, in bytes: meanwhile whoever wants the volume waits.
const roundSize = 64 << 20

// PlanCompaction tells what Compact would do, of a volume in use as well. Extents are rewritten of which at
// least so many percent are of no use.
func PlanCompaction(handle string, key sr.Key, percent int) (Compaction, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return Compaction{}, err
	}
	defer s.Close()
	c, _, err := plan(s, key, percent)
	return c, err
}

// Compact gives back what extents of btrfs keep that are of this volume alone and that it uses only a part of: it writes
// that part anew, and the extents go. What is shared it leaves as it is. The volume must be idle, and is locked
// for a round at a time; moved is told how many bytes of how many have been written. When ctx ends,
// or somebody takes the volume, it ends with what has been done until then, and the next Compact goes on.
//
// The contents are at every moment what they were, and so are the changed blocks: see rewrite.
func Compact(ctx context.Context, handle string, key sr.Key, percent int, moved func(done, total int64)) (Compaction, error) {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return Compaction{}, err
	}
	defer s.Close()
	if err := lease.CheckIdle(s, key); err != nil {
		return Compaction{}, err // before a long look at it
	}
	want, extents, err := plan(s, key, percent)
	if err != nil {
		return want, err
	}
	done := Compaction{Filesystem: want.Filesystem, Kept: want.Kept, KeptWrites: want.KeptWrites}
	for _, some := range rounds(extents) {
		if err = context.Cause(ctx); err != nil {
			break
		}
		var r Compaction
		if r, err = compactSome(handle, key, some); err != nil {
			break
		}
		done.Extents, done.Writes, done.GivesBack = done.Extents+r.Extents, done.Writes+r.Writes, done.GivesBack+r.GivesBack
		moved(done.Writes, want.Writes)
	}
	if done.Extents == 0 {
		return done, err
	}
	synced := sys.Do(func() error { return unix.Syncfs(s.Root.Fd()) }) // what is freed can be used when the transaction has ended
	return done, errors.Join(err, synced)
}

// plan looks which extents of a volume are to be rewritten.
func plan(s *sr.SR, key sr.Key, percent int) (c Compaction, extents []extent.Own, err error) {
	if err := s.MustMapExtents(); err != nil {
		return c, nil, err
	}
	if c.Filesystem = s.Meta.Filesystem.Type; c.Filesystem != "btrfs" {
		return c, nil, nil
	}
	f, err := openWithData(s, key, unix.O_RDONLY)
	if err != nil {
		return c, nil, err
	}
	defer f.Close()
	st, err := sys.Fstat(f)
	if err != nil {
		return c, nil, err
	}
	all, err := extent.OwnOf(f, 0, st.Size)
	if err != nil {
		return c, nil, fmt.Errorf("volume %s: looking for extents that it has alone: %w", key, err)
	}
	extents = slices.DeleteFunc(all, func(o extent.Own) bool {
		gain := o.Size - o.Used
		if gain <= 0 || beyond(o, st.Size) {
			return true
		}
		if gain*100 < o.Size*int64(percent) {
			c.Kept, c.KeptWrites = c.Kept+gain, c.KeptWrites+o.Bytes
			return true
		}
		return false
	})
	for _, some := range rounds(extents) {
		r := sum(some)
		c.Extents, c.Writes, c.GivesBack, c.Needs = c.Extents+r.Extents, c.Writes+r.Writes, c.GivesBack+r.GivesBack, max(c.Needs, r.Needs)
	}
	return c, extents, nil
}

// openWithData opens the data of a volume that has some.
func openWithData(s *sr.SR, key sr.Key, flags int) (*os.File, error) {
	r, err := LoadForChange(s, key)
	if err != nil {
		return nil, err
	}
	if err := r.MustHaveData(key); err != nil {
		return nil, err
	}
	return OpenData(s, key, flags)
}

// beyond says whether a piece lies after the end of the disk: nothing can be put in its place.
func beyond(o extent.Own, size int64) bool {
	const block = 4096
	last := o.Pieces[len(o.Pieces)-1]
	return last.Start+last.Length > (size+block-1)/block*block
}

// sum is what it costs and brings to rewrite extents at a time.
func sum(extents []extent.Own) (c Compaction) {
	for _, o := range extents {
		c.Extents++
		c.Writes += o.Bytes
		c.Needs += o.Used
		c.GivesBack += o.Size - o.Used
	}
	return c
}

// rounds parts extents into those that are rewritten at a time.
func rounds(extents []extent.Own) (all [][]extent.Own) {
	for len(extents) > 0 {
		n, used := 0, int64(0)
		for n < len(extents) && (n == 0 || used+extents[n].Used <= roundSize) {
			used += extents[n].Used
			n++
		}
		all, extents = append(all, extents[:n]), extents[n:]
	}
	return all
}

// compactSome is one round of Compact.
func compactSome(handle string, key sr.Key, extents []extent.Own) (done Compaction, err error) {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return done, err
	}
	defer s.Close()
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return done, err
	}
	defer lock.Unlock()
	if err := lease.CheckIdle(s, key); err != nil {
		return done, err
	}
	if err := Mutable(s, key); err != nil {
		return done, err
	}
	f, err := openWithData(s, key, unix.O_RDWR)
	if err != nil {
		return done, err
	}
	defer f.Close()
	if extents, err = asPlanned(f, extents); err != nil || len(extents) == 0 {
		return done, err
	}
	if err := mustHaveRoom(s, key, sum(extents).Needs); err != nil {
		return done, err
	}
	done, err = rewrite(s, f, extents)
	if errors.Is(err, reflink.ErrDiffers) {
		return done, fault.Hint(fault.Errorf(fault.ErrInUse, string(key), "volume %s: somebody writes to its file, who has not attached it: %v", key, err),
			"end that, and compact it again")
	}
	if err != nil {
		err = fmt.Errorf("volume %s: compacting: %w", key, err)
	}
	return done, err
}

// asPlanned leaves those extents of which the volume has the same pieces as when it was planned, still alone: since
// then it may have been in use, or have got a snapshot.
func asPlanned(f *os.File, extents []extent.Own) ([]extent.Own, error) {
	from, to := extents[0].Pieces[0].Start, int64(0)
	for _, o := range extents {
		last := o.Pieces[len(o.Pieces)-1]
		to = max(to, last.Start+last.Length)
	}
	now, err := extent.OwnOf(f, from, to)
	if err != nil {
		return nil, fmt.Errorf("looking at its extents again: %w", err)
	}
	still := map[int64][]extent.Piece{}
	for _, o := range now {
		still[o.Disk] = o.Pieces
	}
	return slices.DeleteFunc(slices.Clone(extents), func(o extent.Own) bool { return !slices.Equal(still[o.Disk], o.Pieces) }), nil
}

// mustHaveRoom refuses what the filesystem has no room for: the pieces of a round, before its extents go.
func mustHaveRoom(s *sr.SR, key sr.Key, needs int64) error {
	_, free, err := filesystem.Space(s.Root)
	if err != nil {
		return err
	}
	if free < needs {
		return fault.Hint(fault.Errorf(fault.ErrNoSpace, string(key), "volume %s: to compact it %s have to be free for a while, and %s are", key, units.Bytes(needs), units.Bytes(free)),
			"add space, or destroy something first")
	}
	return nil
}
