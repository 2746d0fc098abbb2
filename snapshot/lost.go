package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"reflinksr/sr"
)

// granularity is the length in bytes of the blocks of which a destroyed snapshot knows
// one by one whether it still has them, and of those that list_changed_blocks tells of.
const granularity = 64 << 10

// lostBlocks says which blocks of a volume whose data was destroyed are not in its
// data file any more, and why that is enough to compare it with others.
//
// A block that no other volume shared was lost: it differs from the same block of
// every volume there is, and of every one there will be. A block that the next volume
// whose data was destroyed has as well is kept there; if that is no more, it was lost
// with it.
type lostBlocks struct {
	self    sr.Key
	runs    []run    // in order, not touching or with different keepers
	keepers []sr.Key // that runs refer to; [0] is self
}

// run is a number of blocks with one keeper.
type run struct {
	first, count int64 // blocks
	keeper       int32 // in keepers
}

func (r run) end() int64 { return r.first + r.count }

func newLost(self sr.Key) *lostBlocks { return &lostBlocks{self: self, keepers: []sr.Key{self}} }

// lostMagic begins a file of lost blocks. What follows: the number of keepers and
// their keys, self first; the number of runs, and for each the distance from the end
// of the one before, the count and the keeper, all unsigned varints; a CRC-32C of all
// that, little-endian.
const lostMagic = "reflinksr lost blocks 1\n"

const (
	lostLimit   = 256 << 20 // bytes of a file
	maxBlock    = (1 << 60) / granularity
	keeperLimit = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (l *lostBlocks) encode() []byte {
	b := []byte(lostMagic)
	b = binary.AppendUvarint(b, uint64(len(l.keepers)))
	for _, k := range l.keepers {
		b = append(b, k...)
	}
	b = binary.AppendUvarint(b, uint64(len(l.runs)))
	end := int64(0)
	for _, r := range l.runs {
		for _, n := range []int64{r.first - end, r.count, int64(r.keeper)} {
			b = binary.AppendUvarint(b, uint64(n)) // #nosec G115 -- not negative
		}
		end = r.end()
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeLost reads a file of lost blocks. Every byte of it counts.
func decodeLost(data []byte) (*lostBlocks, error) {
	body := len(data) - 4
	if body < len(lostMagic) || string(data[:len(lostMagic)]) != lostMagic {
		return nil, errors.New("it does not begin as such a file does")
	}
	if binary.LittleEndian.Uint32(data[body:]) != crc32.Checksum(data[:body], castagnoli) {
		return nil, errors.New("its checksum is wrong")
	}
	d := varints{data[len(lostMagic):body]}
	l := new(lostBlocks)
	n, err := d.next(keeperLimit)
	if err != nil {
		return nil, err
	}
	for range n {
		if len(d.data) < 36 {
			return nil, errShort
		}
		k, err := sr.ParseKey(string(d.data[:36]))
		if err != nil {
			return nil, err
		}
		l.keepers, d.data = append(l.keepers, k), d.data[36:]
	}
	if len(l.keepers) == 0 {
		return nil, errors.New("it names no volume")
	}
	l.self = l.keepers[0]
	n, err = d.next(maxBlock)
	end := int64(0)
	for range n {
		var r run
		var gap, keeper int64
		for _, field := range []struct {
			to    *int64
			limit uint64
		}{{&gap, maxBlock}, {&r.count, maxBlock}, {&keeper, uint64(len(l.keepers)) - 1}} {
			if err == nil {
				*field.to, err = d.next(field.limit)
			}
		}
		r.first, r.keeper = end+gap, int32(keeper) // #nosec G115 -- below the number of keepers
		if err != nil {
			return nil, err
		}
		if r.count == 0 || r.end() > maxBlock {
			return nil, fmt.Errorf("%d blocks from block %d on are not possible", r.count, r.first)
		}
		end = r.end()
		l.runs = append(l.runs, r)
	}
	if err == nil && len(d.data) > 0 {
		err = fmt.Errorf("%d bytes are left over", len(d.data))
	}
	return l, err
}

var errShort = errors.New("it is too short")

// varints reads unsigned varints.
type varints struct{ data []byte }

func (v *varints) next(limit uint64) (int64, error) {
	n, length := binary.Uvarint(v.data)
	if length <= 0 {
		return 0, errShort
	}
	v.data = v.data[length:]
	if n > limit {
		return 0, fmt.Errorf("%d is more than %d", n, limit)
	}
	return int64(n), nil // #nosec G115 -- limits are below 2^63
}

// keeper answers the index of a keeper, added if need be.
func (l *lostBlocks) keeper(k sr.Key) int32 {
	i := slices.Index(l.keepers, k)
	if i < 0 {
		i = len(l.keepers)
		l.keepers = append(l.keepers, k)
	}
	return int32(i) // #nosec G115 -- of a list of volumes
}

// with answers l with the runs of more added, none of whose blocks l has. Both are in
// order.
func (l *lostBlocks) with(more []run) *lostBlocks {
	out := &lostBlocks{self: l.self, keepers: slices.Clone(l.keepers), runs: make([]run, 0, len(l.runs)+len(more))}
	a, b := l.runs, more
	for len(a) > 0 || len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].first < a[0].first {
			from = &b
		}
		out.runs = appendRun(out.runs, (*from)[0])
		*from = (*from)[1:]
	}
	return out
}

// without answers l without the runs of one keeper, and without keepers of none.
func (l *lostBlocks) without(keeper sr.Key) *lostBlocks {
	out := newLost(l.self)
	for _, r := range l.runs {
		if k := l.keepers[r.keeper]; k != keeper {
			out.runs = appendRun(out.runs, run{r.first, r.count, out.keeper(k)})
		}
	}
	return out
}

// of answers the runs of one keeper.
func (l *lostBlocks) of(keeper sr.Key) (runs []run) {
	for _, r := range l.runs {
		if l.keepers[r.keeper] == keeper {
			runs = append(runs, r)
		}
	}
	return runs
}

// appendRun adds a run that comes after all others.
func appendRun(runs []run, r run) []run {
	if n := len(runs); n > 0 && runs[n-1].end() == r.first && runs[n-1].keeper == r.keeper {
		runs[n-1].count += r.count
		return runs
	}
	return append(runs, r)
}

// loadLost reads what the volume, whose data was destroyed, has lost. pending says
// that some of those blocks may still take space.
func loadLost(s *sr.SR, key sr.Key) (l *lostBlocks, pending bool, err error) {
	data, err := s.CBT.Read(string(key)+sr.PendingCBT, lostLimit)
	pending = err == nil
	if errors.Is(err, os.ErrNotExist) {
		data, err = s.CBT.Read(string(key), lostLimit)
	}
	if err == nil {
		if l, err = decodeLost(data); err == nil && l.self != key {
			err = fmt.Errorf("it is that of volume %s", l.self)
		}
	}
	if errors.Is(err, os.ErrNotExist) || err != nil && !errors.As(err, new(*os.PathError)) {
		err = sr.Errorf(sr.ErrDamaged, string(key), "volume %s: its data was destroyed, and what tells of changed blocks, %s/.reflinksr/cbt/%s, cannot be read: %v: make a full backup, and destroy the volume", key, s.Path, key, err)
	}
	return l, pending, err
}

// save writes down what was lost, before it is. The caller holds SR.LockCBT and then
// gives the blocks back, and calls settled.
func (l *lostBlocks) save(s *sr.SR) error {
	data := l.encode()
	if len(data) > lostLimit {
		return sr.Errorf(sr.ErrInvalid, string(l.self), "volume %s is in too many pieces for its changed blocks to outlive its data (%d bytes to note, at most %d): destroy it instead", l.self, len(data), lostLimit)
	}
	return s.Replace(s.CBT, string(l.self)+sr.PendingCBT, data)
}

// settled notes that all lost blocks have been given back.
func settled(s *sr.SR, key sr.Key) error {
	err := s.CBT.Rename(string(key)+sr.PendingCBT, s.CBT, string(key))
	if errors.Is(err, os.ErrNotExist) { // it was never noted otherwise
		return nil
	}
	return err
}

// lostCursor walks over a disk some of whose blocks are not in its file.
type lostCursor struct {
	own     walker
	size    int64
	runs    []run     // not yet passed
	names   []sr.Key  // lostBlocks.keepers
	keepers []*walker // of those that there are; nil: what they keep is skipped
	at      int64
}

func (c *lostCursor) next() (segment, error) {
	for len(c.runs) > 0 && c.runs[0].end()*granularity <= c.at {
		c.runs = c.runs[1:]
	}
	if c.at >= c.size || len(c.runs) == 0 {
		return c.passed(c.own.at(c.at))
	}
	r := c.runs[0]
	g, err, limit := segment{start: c.at, end: endless}, error(nil), min(r.end()*granularity, c.size)
	switch {
	case c.at < r.first*granularity:
		g, err = c.own.at(c.at)
		limit = r.first * granularity
	case c.keepers == nil:
	case c.keepers[r.keeper] == nil: // itself, or one that is no more
		g.what, g.keeper = lost, c.names[r.keeper]
	default:
		g, err = c.keepers[r.keeper].at(c.at)
	}
	g.end = min(g.end, limit)
	return c.passed(g, err)
}

func (c *lostCursor) passed(g segment, err error) (segment, error) {
	c.at = g.end
	return g, err
}
