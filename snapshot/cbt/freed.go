package cbt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// granularity is the length in bytes of the blocks of which a destroyed snapshot knows
// one by one whether it still has them, and of those that list_changed_blocks tells of.
const granularity = 64 << 10

// freedBlocks says which blocks of a volume whose data was destroyed are not in its
// data file any more, and why that is enough to compare it with others.
//
// A block that no other volume shared was freed: it differs from the same block of
// every volume there is, and of every one there will be. A block that the next volume
// whose data was destroyed has as well is kept there; if that is no more, it was freed
// with it.
type freedBlocks struct {
	self   sr.Key
	runs   runList
	owners []sr.Key // that runs refer to; [0] is self
}

func newFreed(self sr.Key) *freedBlocks { return &freedBlocks{self: self, owners: []sr.Key{self}} }

// freedMagic begins a file of freed blocks. What follows: the number of owners and
// their keys, self first; the number of runs, and for each the distance from the end
// of the one before, the count and the owner, all unsigned varints; a CRC-32C of all
// that, little-endian.
const freedMagic = "reflinksr lost blocks 1\n"

const (
	freedLimit = 256 << 20 // bytes of a file
	maxBlock   = (1 << 60) / granularity
	ownerLimit = 1 << 16
)

// castagnoli is made when it is needed: that takes longer than many a call.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encode answers what a file of l holds, in pieces.
func (l *freedBlocks) encode() [][]byte {
	head := []byte(freedMagic)
	head = binary.AppendUvarint(head, uint64(len(l.owners)))
	for _, k := range l.owners {
		head = append(head, k...)
	}
	head = binary.AppendUvarint(head, uint64(l.runs.count)) // #nosec G115 -- not negative
	pieces := append([][]byte{head}, l.runs.coded()...)
	sum := uint32(0)
	for _, p := range pieces {
		sum = crc32.Update(sum, castagnoli(), p)
	}
	return append(pieces, binary.LittleEndian.AppendUint32(nil, sum))
}

// decodeFreed reads a file of freed blocks. Every byte of it counts.
func decodeFreed(data []byte) (*freedBlocks, error) {
	body := len(data) - 4
	if body < len(freedMagic) || string(data[:len(freedMagic)]) != freedMagic {
		return nil, errors.New("it does not begin as such a file does")
	}
	if binary.LittleEndian.Uint32(data[body:]) != crc32.Checksum(data[:body], castagnoli()) {
		return nil, errors.New("its checksum is wrong")
	}
	d := varints{data[len(freedMagic):body]}
	l := new(freedBlocks)
	n, err := d.next(ownerLimit)
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
		l.owners, d.data = append(l.owners, k), d.data[36:]
	}
	if len(l.owners) == 0 {
		return nil, errors.New("it names no volume")
	}
	l.self = l.owners[0]
	if n, err = d.next(maxBlock); err != nil {
		return nil, err
	}
	runs, coded := d.data, 0
	for range n {
		var gap, count, owner int64
		coded = len(runs) - len(d.data)
		for _, field := range []struct {
			to    *int64
			limit uint64
		}{{&gap, maxBlock}, {&count, maxBlock}, {&owner, uint64(len(l.owners)) - 1}} {
			if err == nil {
				*field.to, err = d.next(field.limit)
			}
		}
		if err != nil {
			return nil, err
		}
		l.runs.end = l.runs.last.end()
		r := run{l.runs.end + gap, count, int32(owner)} // #nosec G115 -- below the number of owners
		if r.count == 0 || r.end() > maxBlock {
			return nil, fmt.Errorf("%d blocks from block %d on are not possible", r.count, r.first)
		}
		l.runs.last = r
	}
	if len(d.data) > 0 {
		return nil, fmt.Errorf("%d bytes are left over", len(d.data))
	}
	l.runs.chunks, l.runs.count = [][]byte{runs[:coded:coded]}, int(n)
	return l, nil
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

// owner answers the index of a owner, added if need be.
func (l *freedBlocks) owner(k sr.Key) int32 {
	i := slices.Index(l.owners, k)
	if i < 0 {
		i = len(l.owners)
		l.owners = append(l.owners, k)
	}
	return int32(i) // #nosec G115 -- of a list of volumes
}

// with answers l with the runs of more added, none of whose blocks l has.
func (l *freedBlocks) with(more runList) *freedBlocks {
	out := &freedBlocks{self: l.self, owners: slices.Clone(l.owners)}
	switch {
	case more.count == 0:
		out.runs = l.runs.clone()
		return out
	case l.runs.count == 0:
		out.runs = more.clone()
		return out
	}
	a, b := l.runs.walk(), more.walk()
	for a.now.count > 0 || b.now.count > 0 {
		from := a
		if a.now.count == 0 || b.now.count > 0 && b.now.first < a.now.first {
			from = b
		}
		out.runs.add(from.now)
		from.next()
	}
	return out
}

// without answers l without the runs of one owner, and without owners of none.
func (l *freedBlocks) without(owner sr.Key) *freedBlocks {
	out := newFreed(l.self)
	for r := range l.runs.all() {
		if k := l.owners[r.owner]; k != owner {
			out.runs.add(run{r.first, r.count, out.owner(k)})
		}
	}
	return out
}

// of answers the runs of one owner.
func (l *freedBlocks) of(owner sr.Key) (runs runList) {
	for r := range l.runs.all() {
		if l.owners[r.owner] == owner {
			runs.add(r)
		}
	}
	return runs
}

// equal says whether two mean the same.
func (l *freedBlocks) equal(o *freedBlocks) bool {
	if l.self != o.self || !slices.Equal(l.owners, o.owners) {
		return false
	}
	a, b := l.runs.walk(), o.runs.walk()
	for a.now == b.now && a.now.count > 0 {
		a.next()
		b.next()
	}
	return a.now == b.now
}

// loadFreed reads what the volume, whose data was destroyed, has freed. pending says
// that some of those blocks may still take space.
func loadFreed(s *sr.SR, key sr.Key) (l *freedBlocks, pending bool, err error) {
	name := string(key) + sr.PendingCBT
	data, err := s.CBT.Read(name, freedLimit)
	pending = err == nil
	if errors.Is(err, os.ErrNotExist) {
		name = string(key)
		data, err = s.CBT.Read(name, freedLimit)
	}
	if err == nil {
		if l, err = decodeFreed(data); err == nil && l.self != key {
			err = fmt.Errorf("it is that of volume %s", l.self)
		}
	}
	if errors.Is(err, os.ErrNotExist) || err != nil && !errors.As(err, new(*os.PathError)) {
		err = fault.Hint(fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its data was destroyed, and what tells of changed blocks, %s/.reflinksr/cbt/%s, cannot be read: %v", key, s.Path, name, err),
			"make a full backup, and destroy the volume")
	}
	return l, pending, err
}

// save writes down what was freed, before it is. The caller holds SR.LockCBT and then
// gives the blocks back, and calls settled.
func (l *freedBlocks) save(s *sr.SR) error {
	pieces, length := l.encode(), 0
	for _, p := range pieces {
		length += len(p)
	}
	if length > freedLimit {
		return fault.Hint(fault.Errorf(fault.ErrInvalid, string(l.self), "volume %s is in too many pieces for its changed blocks to outlive its data (%d bytes to note, at most %d)", l.self, length, freedLimit),
			"destroy it instead")
	}
	return s.Replace(s.CBT, string(l.self)+sr.PendingCBT, pieces...)
}

// noteGivenBack notes that all freed blocks have been given back.
func noteGivenBack(s *sr.SR, key sr.Key) error {
	err := s.CBT.Rename(string(key)+sr.PendingCBT, s.CBT, string(key))
	if errors.Is(err, os.ErrNotExist) { // it was never noted otherwise
		return nil
	}
	return err
}

// freedCursor walks over a disk some of whose blocks are not in its file.
type freedCursor struct {
	own    walker
	size   int64
	runs   *runWalker // at the first that is not yet passed
	names  []sr.Key   // freedBlocks.owners
	owners []*walker  // of those that there are; nil: what they keep is skipped
	at     int64
}

func (c *freedCursor) next() (segment, error) {
	for c.runs.now.count > 0 && c.runs.now.end()*granularity <= c.at {
		c.runs.next()
	}
	r := c.runs.now
	if c.at >= c.size || r.count == 0 {
		return c.passed(c.own.at(c.at))
	}
	g, err, limit := segment{start: c.at, end: endless}, error(nil), min(r.end()*granularity, c.size)
	switch {
	case c.at < r.first*granularity:
		g, err = c.own.at(c.at)
		limit = r.first * granularity
	case c.owners == nil:
	case c.owners[r.owner] == nil: // itself, or one that is no more
		g.what, g.owner = freed, c.names[r.owner]
	default:
		g, err = c.owners[r.owner].at(c.at)
	}
	g.end = min(g.end, limit)
	return c.passed(g, err)
}

func (c *freedCursor) passed(g segment, err error) (segment, error) {
	c.at = g.end
	return g, err
}
