package cbt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/scripts/tests"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

var (
	historyOps  = flag.Int("history.ops", 500, "operations of TestHistory on each kind of filesystem")
	historySeed = flag.Uint64("history.seed", 1, "seed of the first history; 0 takes any")
)

// historyLength is the number of operations after which everything is destroyed, and
// another history begins.
const historyLength = 1500

// Whatever is done to the volumes of an SR, changed blocks are told of as such, those of
// destroyed data as before it was destroyed, and no volume's bytes change.
func TestHistory(t *testing.T) {
	length := tests.Share(*historyOps/5, *historyOps)
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			b := newBed(t, l, 2<<30)
			seed := *historySeed
			if seed == 0 {
				seed = uint64(time.Now().UnixNano()) % 1_000_000_000
			}
			h := &history{t: t, bed: b, did: map[string]int{}}
			for _, once := range onceWrong {
				if once.layout == l.name {
					h.run(once.seed, once.operations)
				}
			}
			for done := 0; done < length; seed++ {
				n := min(historyLength, length-done)
				h.run(seed, n)
				done += n
				if done%(10*historyLength) == 0 || done == length {
					t.Logf("%d operations, %v: %v", done, h.did, h)
				}
			}
		})
	}
}

// onceWrong are short histories that showed a mistake.
var onceWrong = []struct {
	layout     string
	seed       uint64
	operations int
}{
	{"btrfs", 3002, 130}, // the last block of a shorter disk
	{"xfs", 3043, 160},   // a owner of a owner that is no more
}

// history is one sequence of operations and what they must have led to.
type history struct {
	t *testing.T
	*bed
	rand  *rand.Rand
	seed  uint64
	now   int // operations done
	disks []*modelDisk
	names int
	clock int64 // seconds
	stamp uint64
	did   map[string]int
	log   []string

	answers map[[2]sr.Key]answer // to list_changed_blocks, of whole disks

	blocks    seen // by list_changed_blocks
	compared  int  // by compare
	same, cut int  // answers as before; and none, because records between the two are gone
	read      int  // volumes, of which every byte was right
}

func (h *history) String() string {
	return fmt.Sprintf("%v; %d times answered as before, %d times refused because the records between the two are gone; compare: %d; volumes read: %d", h.blocks, h.same, h.cut, h.compared, h.read)
}

// answer is what was answered of two disks.
type answer struct {
	changed [2]int
	bitmap  string
	err     string
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("seed %d, operation %d: %s\nagain: go test ./snapshot -run '^%s$' -history.seed %d -history.ops %d\nlast:\n  %s",
		h.seed, h.now, fmt.Sprintf(format, args...), h.t.Name(), h.seed, historyLength, strings.Join(h.log[max(0, len(h.log)-60):], "\n  "))
}

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.fatalf("%v", err)
	}
	if lines := complaints.take(); len(lines) > 0 {
		h.fatalf("logged: %q", lines)
	}
}

// refused fails unless the call was refused with one of the classes.
func (h *history) refused(what string, err error, classes ...error) {
	h.t.Helper()
	if !slices.ContainsFunc(classes, func(c error) bool { return errors.Is(err, c) }) {
		h.fatalf("%s must be refused as one of %v: %v", what, classes, err)
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%d ", h.now)+fmt.Sprintf(format, args...))
}

// operation does one thing, if there is a volume to do it to.
type operation struct {
	name   string
	weight int
	do     func(*history) bool
}

var operations = []operation{
	{"write", 80, (*history).write},
	{"discard", 10, (*history).discard},
	{"write zeros", 10, (*history).zero},
	{"preallocate", 4, (*history).preallocate},
	{"flush", 2, (*history).flush},
	{"deduplicate", 3, (*history).deduplicate},
	{"create", 2, (*history).create},
	{"snapshot", 11, (*history).snapshot},
	{"clone", 3, (*history).clone},
	{"revert", 3, (*history).revert},
	{"resize", 2, (*history).resize},
	{"destroy", 6, (*history).destroy},
	{"data_destroy", 6, (*history).destroyData},
	{"compose", 2, (*history).compose},
	{"cbt", 1, (*history).switchCBT},
	{"attach", 4, (*history).attachOne},
	{"detach", 4, (*history).detachOne},
	{"recover", 1, (*history).recover},
	{"bad input", 1, (*history).refuse},
}

// diskLimit bounds how many volumes there are at a time.
const diskLimit = 14

func (h *history) run(seed uint64, n int) {
	h.seed, h.rand = seed, rand.New(rand.NewPCG(seed, 0))
	h.disks, h.log, h.clock, h.names, h.now = nil, nil, 0, 0, 0
	h.answers = map[[2]sr.Key]answer{}
	complaints.take()
	var all int
	for _, op := range operations {
		all += op.weight
	}
	for h.now = 1; h.now <= n; {
		op := h.choose(h.rand.IntN(all))
		if len(h.disks) >= diskLimit && h.rand.IntN(2) == 0 {
			op = operations[slices.IndexFunc(operations, func(o operation) bool { return o.name == "destroy" })]
		}
		if !op.do(h) {
			continue
		}
		h.must(nil)
		h.did[op.name]++
		if h.now%3 == 0 {
			h.comparePair()
		}
		if h.now%10 == 0 {
			h.listPair()
		}
		if h.now%25 == 0 {
			h.readOne()
		}
		h.now++
	}
	h.readAll(h.disks)
	h.end()
}

func (h *history) choose(n int) operation {
	for _, op := range operations {
		if n -= op.weight; n < 0 {
			return op
		}
	}
	panic("no operation")
}

func writable(d *modelDisk) bool { return d.writable }

func (h *history) pick(fits ...func(*modelDisk) bool) *modelDisk {
	return pick(h.rand, h.disks, fits...)
}

// add notes a new volume. Its time of birth is set to that of the model, so that the same
// seed has the same order of births, also when many are born within a second, or the
// clock went back.
func (h *history) add(v volume.Volume, d *modelDisk) {
	d.key, d.changed = v.Key, h.now
	h.names++
	d.name = fmt.Sprintf("%s%d", map[bool]string{true: "v", false: "s"}[d.writable], h.names)
	h.clock += int64(h.rand.IntN(3))
	if h.rand.IntN(20) == 0 {
		h.clock -= int64(h.rand.IntN(100))
	}
	path := filepath.Join(h.dir, sr.Record(v.Key))
	data, err := os.ReadFile(path)
	h.must(err)
	var record map[string]json.RawMessage
	h.must(json.Unmarshal(data, &record))
	record["created"], _ = json.Marshal(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(h.clock) * time.Second))
	data, err = json.Marshal(record)
	h.must(err)
	h.must(os.WriteFile(path, data, 0o600))
	h.disks = append(h.disks, d)
}

// drop forgets a volume.
func (h *history) drop(d *modelDisk) {
	h.disks = slices.DeleteFunc(h.disks, func(other *modelDisk) bool { return other == d })
}

func (h *history) create() bool {
	if len(h.disks) >= diskLimit {
		return false
	}
	size := int64(1+h.rand.IntN(256)) * 4096 * int64(1+h.rand.IntN(8)) // up to 8 MiB
	v, err := volume.Create(h.handle, "disk", "", size, false)
	h.must(err)
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
func (h *history) clone() bool    { return h.derive(volume.Clone, snapshot.Clone) }

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
	d.bytes = append(d.bytes, make([]byte, size-len(d.bytes))...)
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
	h.must(Destroy(h.handle, d.key))
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
		h.must(Destroy(h.handle, d.key))
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
