package cbt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

func (h *history) create() bool {
	if len(h.disks) >= diskLimit {
		return false
	}
	size := int64(1+h.rand.IntN(256)) * 4096 * int64(1+h.rand.IntN(8)) // up to 8 MiB
	v, err := volume.Create(h.handle, "disk", "", size, false)
	h.must(err)
	if h.rand.IntN(4) > 0 { // as earlier versions made it, which rounded less
		h.must(os.Truncate(filepath.Join(h.dir, string(v.Key)), size))
		v.VirtualSize = size
	}
	d := &modelDisk{writable: true, bytes: make([]byte, v.VirtualSize)}
	h.add(v, d)
	if h.rand.IntN(5) > 0 {
		h.must(EnableCBT(h.handle, d.key))
		d.cbt = true
	}
	h.note("create %s of %d bytes, cbt %v", d, len(d.bytes), d.cbt)
	return true
}

// someRange answers a range of a disk in whole units.
func (h *history) someRange(d *modelDisk, unit int64) (offset, length int64) {
	size := int64(len(d.bytes)) / unit
	most := []int64{1, 4, 64, 1 << 10, 1 << 20}[h.rand.IntN(5)]
	offset = h.rand.Int64N(size)
	if h.rand.IntN(4) == 0 {
		offset = min(offset/16*16, size-1) // blocks as a whole are of interest
	}
	length = 1 + h.rand.Int64N(min(most, size-offset, 512<<10/unit+1))
	return offset * unit, length * unit
}

func (h *history) write() bool {
	d := h.pick(writable)
	if d == nil {
		return false
	}
	way := []string{"buffered", "direct", "mapped"}[h.rand.IntN(3)]
	unit := int64(1)
	if way == "direct" || d.device != nil && h.rand.IntN(2) == 0 {
		unit = 4096
	}
	offset, length := h.someRange(d, unit)
	data, what := h.data(d, offset, length)
	h.note("write %s: %d bytes at %d, %s, %s", d, length, offset, way, what)
	h.must(store(h.path(d), way, data, offset))
	copy(d.bytes[offset:], data)
	d.changed = h.now
	return true
}

// data makes something to be written.
func (h *history) data(d *modelDisk, offset, length int64) (data []byte, what string) {
	data = make([]byte, length)
	switch n := h.rand.IntN(20); {
	case n < 11: // compressible
		h.stamp++
		for i := range data {
			data[i] = byte(h.stamp >> (i % 4 * 8))
		}
		return data, "new"
	case n < 16:
		for i := 0; i < len(data); i += 8 {
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], h.rand.Uint64())
			copy(data[i:], word[:])
		}
		return data, "random"
	case n < 17:
		return data, "zeros"
	case n < 18:
		copy(data, d.bytes[offset:])
		return data, "the same"
	default:
		other := h.disks[h.rand.IntN(len(h.disks))]
		copy(data, at(other.bytes, offset, offset+length))
		return data, "as " + other.name
	}
}

// reallocate makes a range read as zeros by way of the kernel.
func (h *history) reallocate(mode uint32, unit int64) bool {
	d := h.pick(writable)
	if d == nil {
		return false
	}
	if d.device != nil || int64(len(d.bytes)) < unit {
		unit = 4096
	}
	offset, length := h.someRange(d, unit)
	h.note("fallocate %s: mode %#x, %d bytes at %d, attached: %v", d, mode, length, offset, !d.idle())
	h.must(fallocate(h.path(d), mode, offset, length))
	clear(d.bytes[offset : offset+length])
	d.changed = h.now
	return true
}

func (h *history) discard() bool {
	return h.reallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, []int64{1, 4096, granularity}[h.rand.IntN(3)])
}

func (h *history) zero() bool {
	return h.reallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, []int64{1, 4096}[h.rand.IntN(2)])
}

func (h *history) preallocate() bool {
	d := h.pick(writable, (*modelDisk).idle)
	if d == nil {
		return false
	}
	offset, length := h.someRange(d, 4096)
	h.note("preallocate %s: %d bytes at %d", d, length, offset)
	h.must(fallocate(h.path(d), unix.FALLOC_FL_KEEP_SIZE, offset, length))
	d.changed = h.now
	return true
}

func (h *history) flush() bool {
	d := h.pick((*modelDisk).living)
	if d == nil {
		return false
	}
	h.note("flush %s", d)
	_, err := readAll(h.path(d), len(d.bytes), true)
	h.must(err)
	return true
}

// deduplicate lets a range of one disk share the blocks of another that holds the same,
// at another place if there is one, as programs do that look for such.
func (h *history) deduplicate() bool {
	if h.seed%2 == 0 {
		return false
	}
	for range 20 {
		from, to := h.pick((*modelDisk).living, (*modelDisk).idle), h.pick(writable, (*modelDisk).idle)
		if from == nil || to == nil {
			return false
		}
		offset, length := h.someRange(from, 4096)
		if place, ok := alike(from, to, offset, length); ok {
			h.share(from, to, offset, place, length)
			return true
		}
	}
	return false
}

// alike looks for a place where a disk holds the same as another at offset.
func alike(from, to *modelDisk, offset, length int64) (place int64, ok bool) {
	data := from.bytes[offset : offset+length]
	if bytes.Count(data, []byte{0}) == len(data) {
		return 0, false
	}
	for p := int64(0); p+length <= int64(len(to.bytes)); p += 4096 {
		apart := to != from || p >= offset+length || p+length <= offset
		if apart && bytes.Equal(to.bytes[p:p+length], data) {
			place, ok = p, true
			if p != offset {
				break
			}
		}
	}
	return place, ok
}

func (h *history) share(from, to *modelDisk, offset, place, length int64) {
	h.note("deduplicate: %d bytes of %s at %d are those of %s at %d", length, to, place, from, offset)
	src, err := os.Open(h.path(from))
	h.must(err)
	defer src.Close()
	dst, err := os.OpenFile(h.path(to), os.O_RDWR, 0)
	h.must(err)
	defer dst.Close()
	request := unix.FileDedupeRange{Src_offset: uint64(offset), Src_length: uint64(length), Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst.Fd()), Dest_offset: uint64(place)}}}
	h.must(unix.IoctlFileDedupeRange(int(src.Fd()), &request))
	if got := request.Info[0]; got.Status != unix.FILE_DEDUPE_RANGE_SAME || got.Bytes_deduped == 0 {
		h.fatalf("deduplicating: %+v", got)
	}
	to.changed = h.now
}

func (h *history) derive(kind volume.Kind, make func(handle string, key sr.Key) (volume.Volume, error)) bool {
	d := h.pick((*modelDisk).living)
	if kind == volume.Snapshot && h.rand.IntN(4) > 0 {
		d = h.pick(writable, func(d *modelDisk) bool { return d.cbt }) // of a snapshot it is less interesting
	}
	if d == nil || len(h.disks) >= diskLimit {
		return false
	}
	v, err := make(h.handle, d.key)
	h.must(err)
	n := &modelDisk{writable: kind != volume.Snapshot, bytes: bytes.Clone(d.bytes), cbt: d.cbt, origin: d.key}
	h.add(v, n)
	h.note("%s %s to %s, attached: %v", kind, d, n, !d.idle())
	return true
}

func (h *history) snapshot() bool { return h.derive(volume.Snapshot, snapshot.Snapshot) }

func (h *history) clone() bool { return h.derive(volume.Clone, snapshot.Clone) }

func (h *history) revert() bool {
	from, to := h.pick((*modelDisk).living), h.pick(writable, (*modelDisk).idle)
	if from == nil || to == nil || from == to {
		return false
	}
	h.note("revert %s to %s", to, from)
	h.must(snapshot.Revert(h.handle, from.key, to.key))
	to.bytes, to.changed = bytes.Clone(from.bytes), h.now
	return true
}

func (h *history) resize() bool {
	d := h.pick(writable, func(d *modelDisk) bool { return len(d.bytes) < 7<<20 })
	if d == nil {
		return false
	}
	size := len(d.bytes) + 4096*h.rand.IntN(256)
	h.note("resize %s to %d", d, size)
	h.must(volume.Resize(h.handle, d.key, int64(size)))
	v, err := volume.Stat(h.handle, d.key)
	h.must(err)
	d.bytes = append(d.bytes, make([]byte, int(v.VirtualSize)-len(d.bytes))...)
	d.changed = h.now
	return true
}

func (h *history) switchCBT() bool {
	d := h.pick(writable)
	if d == nil {
		return false
	}
	d.cbt = !d.cbt
	h.note("cbt of %s: %v", d, d.cbt)
	if d.cbt {
		h.must(EnableCBT(h.handle, d.key))
	} else {
		h.must(DisableCBT(h.handle, d.key))
	}
	return true
}

func (h *history) attachOne() bool {
	d := h.pick((*modelDisk).living, (*modelDisk).idle)
	if d == nil || !d.writable && h.rand.IntN(4) > 0 {
		return false
	}
	h.note("attach %s", d)
	h.must(h.attach(d))
	return true
}

func (h *history) detachOne() bool {
	d := h.pick(func(d *modelDisk) bool { return !d.idle() })
	if d == nil {
		return false
	}
	h.note("detach %s", d)
	h.must(h.detach(d))
	return true
}

func (h *history) destroy() bool {
	d := h.pick((*modelDisk).idle)
	if d == nil || d.writable && h.rand.IntN(3) > 0 {
		return false
	}
	h.note("destroy %s", d)
	kin := h.kin(d)
	h.must(h.settle())
	h.destroying(d, func() error { return Destroy(h.handle, d.key) })
	h.drop(d)
	h.trimmed(kin)
	h.readKin(kin)
	return true
}

// destroyData also checks that all that can be asked is answered as just before.
func (h *history) destroyData() bool {
	d := h.pick((*modelDisk).idle, func(d *modelDisk) bool { return !d.writable && d.cbt })
	if d == nil {
		return false
	}
	h.note("data_destroy %s, again: %v", d, d.destroyed)
	kin := h.kin(d)
	pairs := h.pairs(kin)
	if h.rand.IntN(4) > 0 { // not all of them, in the interest of more operations
		h.rand.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		pairs = pairs[:min(len(pairs), 6)]
	}
	for _, p := range pairs {
		h.compare(p[0], p[1])
	}
	h.must(h.settle())
	h.must(DestroyData(h.handle, d.key))
	d.destroyed = true
	for _, p := range pairs {
		h.compare(p[0], p[1])
	}
	h.trimmed(kin)
	h.readKin(kin)
	return true
}

func (h *history) compose() bool {
	child := h.pick(writable, (*modelDisk).idle)
	if child == nil {
		return false
	}
	parent := h.pick((*modelDisk).living, (*modelDisk).idle, func(d *modelDisk) bool { return d != child && len(d.bytes) <= len(child.bytes) })
	if parent == nil {
		return false
	}
	s, err := sr.Open(h.handle, dirfs.Shared)
	h.must(err)
	related, err := relatives(s, child.key, parent.key)
	s.Close()
	h.must(err)
	h.note("compose %s over %s, related: %v", child, parent, related)
	if !related {
		child.bytes, err = h.laidOver(child, parent)
		h.must(err)
		child.changed = h.now
	}
	kin := h.kin(parent)
	h.must(h.settle())
	h.must(Compose(h.handle, child.key, parent.key))
	h.drop(parent)
	h.trimmed(kin)
	h.readKin(kin)
	return true
}

// laidOver answers what is allocated of the child over the bytes of the parent.
func (h *history) laidOver(child, parent *modelDisk) ([]byte, error) {
	f, err := os.Open(h.path(child))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make([]byte, len(child.bytes))
	copy(all, parent.bytes)
	return all, extent.Each(f, func(e extent.Extent) bool {
		if e.Logical < int64(len(all)) {
			copy(all[e.Logical:], at(child.bytes, e.Logical, e.Logical+e.Length))
		}
		return true
	})
}

// recover attaches the SR again, now and then after a crash just before it was noted that
// freed blocks had been given back.
func (h *history) recover() bool {
	d := h.pick(func(d *modelDisk) bool { return d.destroyed })
	if d != nil {
		cbt := filepath.Join(h.dir, ".reflinksr", "cbt", string(d.key))
		if err := os.Rename(cbt, cbt+sr.PendingCBT); err != nil && !errors.Is(err, os.ErrNotExist) {
			h.must(err)
		}
		if h.rand.IntN(2) == 0 { // whoever is next finds it so
			h.note("%s is pending", d)
			return true
		}
	}
	h.note("SR.attach, and %v was pending", d)
	_, err := sr.Attach(h.conf)
	h.must(err)
	h.must(Recover(h.handle))
	return true
}

// refuse asks for what must be refused.
func (h *history) refuse() bool {
	d := h.pick()
	if d == nil {
		return false
	}
	key := d.key
	h.note("bad input of %s", d)
	switch {
	case d.writable:
		h.refused("data_destroy of a writable volume", DestroyData(h.handle, key), fault.ErrInvalid)
	case !d.cbt:
		h.refused("data_destroy without CBT", DestroyData(h.handle, key), fault.ErrNoCBT)
	case !d.idle():
		h.refused("data_destroy of what is in use", DestroyData(h.handle, key), fault.ErrInUse)
	}
	if d.destroyed {
		_, err := snapshot.Snapshot(h.handle, key)
		h.refused("a snapshot of destroyed data", err, fault.ErrNoData)
		_, err = snapshot.Clone(h.handle, key)
		h.refused("a clone of destroyed data", err, fault.ErrNoData)
		err = h.attach(&modelDisk{key: d.key})
		h.refused("attaching destroyed data", err, fault.ErrNoData)
		if to := h.pick(writable, (*modelDisk).idle); to != nil {
			h.refused("reverting to destroyed data", snapshot.Revert(h.handle, key, to.key), fault.ErrNoData)
			h.refused("composing with destroyed data", Compose(h.handle, to.key, key), fault.ErrNoData)
		}
	}
	if !d.idle() {
		h.refused("destroying what is in use", Destroy(h.handle, key), fault.ErrInUse)
	}
	h.refused("composing with itself", Compose(h.handle, key, key), fault.ErrInvalid)
	if d.cbt {
		for _, r := range [][2]int64{{-1, -1}, {0, -2}, {int64(len(d.bytes)) + 1, -1}, {0, int64(len(d.bytes)) + 1}, {1, 1<<63 - 1}} {
			_, err := ListChangedBlocks(context.Background(), h.handle, key, key, r[0], r[1])
			h.refused(fmt.Sprintf("a range %v", r), err, fault.ErrSize)
		}
	}
	return true
}
