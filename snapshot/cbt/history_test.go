package cbt

import (
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

	"reflinksr/scripts/tests"
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
			h := &history{t: t, bed: b, layout: l, did: map[string]int{}}
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
	layout diskLayout
	rand   *rand.Rand
	seed   uint64
	now    int // operations done
	disks  []*modelDisk
	names  int
	clock  int64 // seconds
	stamp  uint64
	did    map[string]int
	log    []string

	answers map[[2]sr.Key]answer // to list_changed_blocks, of whole disks

	blocks    seen // by list_changed_blocks
	compared  int  // by compare
	same, cut int  // answers as before; and none, because records between the two are gone
	read      int  // volumes, of which every byte was right

	space, pinned int // destructions that gave back what was told; with extents used in part
	compacted     int // volumes that gave something back
}

func (h *history) String() string {
	return fmt.Sprintf("%v; %d times answered as before, %d times refused because the records between the two are gone; compare: %d; volumes read: %d; destroyed as told: %d, of them with pinned space: %d; compacted: %d", h.blocks, h.same, h.cut, h.compared, h.read, h.space, h.pinned, h.compacted)
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
	{"compact", 4, (*history).compact},
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
