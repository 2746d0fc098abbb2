package cbt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// pairs lists every two of the disks that can be compared, in one order or the other.
func (h *history) pairs(disks []*modelDisk) (pairs [][2]*modelDisk) {
	for i, a := range disks {
		for _, b := range disks[:i] {
			if !a.cbt || !b.cbt {
				continue
			}
			if h.rand.IntN(2) == 0 {
				a, b = b, a
			}
			pairs = append(pairs, [2]*modelDisk{a, b})
		}
	}
	return pairs
}

// line is a disk and what it comes from, as far as that is there; the last may be gone.
func (h *history) line(d *modelDisk) []sr.Key {
	line := []sr.Key{d.key}
	for d != nil && d.origin != "" {
		line = append(line, d.origin)
		i := slices.IndexFunc(h.disks, func(o *modelDisk) bool { return o.key == d.origin })
		if i < 0 {
			return line
		}
		d = h.disks[i]
	}
	return line
}

// kin lists the relatives of a disk by lineage, itself included.
func (h *history) kin(d *modelDisk) (kin []*modelDisk) {
	line := h.line(d)
	for _, other := range h.disks {
		if slices.ContainsFunc(h.line(other), func(k sr.Key) bool { return slices.Contains(line, k) }) {
			kin = append(kin, other)
		}
	}
	return kin
}

// two picks two disks, more often than not of one family.
func (h *history) two() (a, b *modelDisk) {
	a, b = h.pick(), h.pick()
	if a != nil && h.rand.IntN(5) > 0 {
		b = pick(h.rand, h.kin(a))
	}
	return a, b
}

func (h *history) comparePair() {
	a, b := h.two()
	if a == nil {
		return
	}
	if h.rand.IntN(4) > 0 || len(b.bytes) == 0 {
		h.compare(a, b)
		return
	}
	offset := h.rand.Int64N(int64(len(b.bytes)))
	length := 1 + h.rand.Int64N(int64(len(b.bytes))-offset)
	c, err := ListChangedBlocks(context.Background(), h.handle, a.key, b.key, offset, length)
	if !h.answered(a, b, err) {
		return
	}
	first := offset / granularity
	if err := h.blocks.judgeBitmap(c, a, b, first, (offset+length-1)/granularity+1-first); err != nil {
		h.fatalf("list_changed_blocks of %d bytes at %d: %v", length, offset, err)
	}
}

// answered says whether there is an answer to be judged, and fails where there must be
// one and is none.
func (h *history) answered(a, b *modelDisk, err error) bool {
	h.t.Helper()
	switch {
	case !a.cbt || !b.cbt:
		h.refused("without CBT: list_changed_blocks", err, fault.ErrNoCBT)
		return false
	case errors.Is(err, fault.ErrUnrelated) && !slices.Contains(h.kin(a), b):
		return false
	}
	if err != nil {
		h.fatalf("list_changed_blocks from %s to %s: %v", a, b, err)
	}
	return true
}

// compare judges an answer about whole disks, by the bytes and by what was answered
// before.
func (h *history) compare(a, b *modelDisk) {
	h.t.Helper()
	c, err := ListChangedBlocks(context.Background(), h.handle, a.key, b.key, 0, -1)
	pair, now := [2]sr.Key{a.key, b.key}, answer{changed: [2]int{a.changed, b.changed}, bitmap: c.Bitmap}
	ok := h.answered(a, b, err)
	if ok {
		if err := h.blocks.judgeBitmap(c, a, b, 0, (int64(len(b.bytes))+granularity-1)/granularity); err != nil {
			h.fatalf("list_changed_blocks: %v", err)
		}
	} else if !a.cbt || !b.cbt {
		return
	} else {
		now.err, now.bitmap = "unrelated", ""
	}
	if before, had := h.answers[pair]; had && before.changed == now.changed {
		switch {
		case now == before:
			h.same++
		case now.err != "" && before.err == "" && !slices.Contains(h.kin(a), b):
			h.cut++
		default:
			h.fatalf("list_changed_blocks from %s (destroyed: %v) to %s (destroyed: %v) was %q %s, and is %q %s; neither has changed", a, a.destroyed, b, b.destroyed, before.err, before.bitmap, now.err, now.bitmap)
		}
	}
	h.answers[pair] = now
}

func (h *history) listPair() {
	a, b := h.two()
	if a == nil {
		return
	}
	l, err := Compare(context.Background(), h.handle, a.key, b.key)
	related := slices.Contains(h.kin(a), b)
	if !related && a.destroyed && errors.Is(err, fault.ErrNoData) {
		return
	}
	h.must(err)
	h.compared++
	err = judgeList(l, int64(max(len(a.bytes), len(b.bytes))), differ(a.bytes, b.bytes))
	if err != nil && !related {
		err = judgeList(l, int64(len(a.bytes)), full(a.bytes))
	}
	if err != nil {
		h.fatalf("compare of %s and %s, relatives: %v: %v", a, b, related, err)
	}
}

// readOne checks a living disk's bytes.
func (h *history) readOne() {
	if d := h.pick((*modelDisk).living); d != nil {
		h.check(d)
	}
}

// readKin checks one of the disks that are there and living, now and then all of them.
func (h *history) readKin(disks []*modelDisk) {
	here := func(d *modelDisk) bool { return slices.Contains(h.disks, d) }
	if h.rand.IntN(8) == 0 {
		h.readAll(disks)
	} else if d := pick(h.rand, disks, (*modelDisk).living, here); d != nil {
		h.check(d)
	}
}

func (h *history) readAll(disks []*modelDisk) {
	for _, d := range disks {
		if d.living() && slices.Contains(h.disks, d) {
			h.check(d)
		}
	}
}

func (h *history) check(d *modelDisk) {
	h.t.Helper()
	h.read++
	have, err := readAll(h.path(d), len(d.bytes), h.rand.IntN(8) == 0)
	h.must(err)
	if !bytes.Equal(have, d.bytes) {
		n := firstDifference(have, d.bytes)
		h.fatalf("WRONG BYTES: %s has %#x at %d, it must be %#x", d, have[n], n, d.bytes[n])
	}
}

// trimmed checks that of those whose data was destroyed nothing takes space that no other
// volume shares. Of what was deduplicated that is not so: that a block is shared with
// another place, or with no relative, is not looked for.
func (h *history) trimmed(kin []*modelDisk) {
	h.t.Helper()
	if h.seed%2 == 1 {
		return
	}
	for _, d := range kin {
		if !d.destroyed || !slices.Contains(h.disks, d) {
			continue
		}
		f, err := os.Open(h.path(d))
		h.must(err)
		u, err := extent.UsageOf(f)
		f.Close()
		h.must(err)
		if u.Exclusive != 0 {
			h.fatalf("the data of %s was destroyed, and %d bytes of it are its own; %d are shared", d, u.Exclusive, u.Shared)
		}
	}
}

// end destroys everything in any order, after which nothing is left.
func (h *history) end() {
	for len(h.disks) > 0 {
		d := h.pick()
		h.note("at the end: destroy %s", d)
		if !d.idle() {
			h.must(h.detach(d))
		}
		kin := h.kin(d)
		h.must(h.settle())
		h.destroying(d, func() error { return Destroy(h.handle, d.key) })
		h.drop(d)
		h.trimmed(kin)
		h.comparePair()
	}
	for _, dir := range []string{".reflinksr/cbt", ".reflinksr/staging", "."} {
		entries, err := os.ReadDir(filepath.Join(h.dir, dir))
		h.must(err)
		for _, e := range entries {
			if !slices.Contains([]string{"sr.json", ".reflinksr"}, e.Name()) {
				h.fatalf("left over: %s/%s", dir, e.Name())
			}
		}
	}
}
