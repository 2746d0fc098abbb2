package calls

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/smapi"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
)

// block is what list_changed_blocks tells of, in bytes.
const block = 64 << 10

// kept is what a snapshot whose data was destroyed still has of it, in blocks.
type kept struct {
	Blocks []int64 // of which something is in its file
	Alone  []int64 // and in no other file
}

// track gives main changed block tracking, contents in its first eight blocks, and three
// snapshots. Which of the four have the same block:
//
//	first   a a a a a a a .
//	second  b b a a a a a .
//	third   c b c c a a a .
//	main    c b c d d d a .
//
// Of some blocks only a piece was written anew.
func (w *world) track() error {
	err := w.call(smapi.VolumeEnableCBT{SR: w.handle("sr"), Key: w.key("main")}, nil)
	for i := range 7 { // one by one: btrfs frees what was written at once only at once
		err = errors.Join(err, w.write("main", i*block, block))
	}
	for _, step := range []struct {
		name    string
		written [][2]int // offset, length
	}{
		{"first", [][2]int{{0, block}, {block + 4096, 4096}}},
		{"second", [][2]int{{0, block}, {2 * block, block}, {3*block + 8192, 4096}}},
		{"third", [][2]int{{3 * block, block}, {4 * block, block}, {5 * block, 4096}}},
	} {
		if err == nil {
			err = w.derive(step.name, "Volume.snapshot", "main")
		}
		for _, r := range step.written {
			if err == nil {
				err = w.write("main", r[0], r[1])
			}
		}
	}
	w.truth = map[string][]byte{}
	for _, name := range []string{"first", "second", "third"} {
		if err == nil {
			w.truth[name], err = os.ReadFile(w.data(name))
		}
	}
	return err
}

// destroyedData is track with the data of some of the snapshots destroyed.
func destroyedData(names ...string) func(*world) error {
	return func(w *world) error {
		err := w.track()
		for _, name := range names {
			if err == nil {
				err = w.call(smapi.VolumeDataDestroy{SR: w.handle("sr"), Key: w.key(name)}, nil)
			}
		}
		return err
	}
}

// withheld is a destruction of data that was interrupted before it gave anything back.
func (w *world) withheld() error {
	if err := destroyedData("second")(w); err != nil {
		return err
	}
	cbt := w.control("cbt/" + string(w.keys["second"]))
	return errors.Join(os.Rename(cbt, cbt+sr.PendingCBT), w.write("second", 0, block))
}

// layer is a disk that something was written to, not related to main, which has a
// destroyed snapshot.
func layer(size int64) func(*world) error {
	return func(w *world) error {
		err := destroyedData("third")(w)
		if err == nil {
			err = w.create("layer")
		}
		return errors.Join(err,
			w.call(w.resize("layer", size), nil),
			w.write("layer", block, 2*block), w.write("layer", 6*block+4096, 8192))
	}
}

// leaf is a disk that comes from main, which has a destroyed snapshot.
func (w *world) leaf() error {
	err := destroyedData("third")(w)
	if err == nil {
		err = w.derive("layer", "Volume.clone", "main")
	}
	return errors.Join(err, w.write("layer", 4*block, 4096))
}

func compose(w *world, _ string) smapi.Request {
	return smapi.VolumeCompose{SR: w.handle("sr"), Key: w.key("layer"), Key2: w.key("main")}
}

// composed is between the two commits of a composition: the child has everything, and
// the parent is still there.
func composed(before, after *state) *state {
	return before.with("sr", func(r *repository) { r.Volumes["layer"] = after.SRs["sr"].Volumes["layer"] })
}

// readCBT reads what is known of changed blocks, and what is kept for that.
func (r *repository) readCBT(w *world, dir string, names *names) error {
	tracked := r.tracked()
	entries, err := os.ReadDir(filepath.Join(dir, ".reflinksr", "cbt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		r.private(e, 0o600)
		if name := names.in(e.Name()); !slices.Contains(tracked, name) || !r.Volumes[name].destroyed() {
			r.Left.CBT = append(r.Left.CBT, name)
		}
	}
	if r.Marker == nil || filepath.Base(dir) != "sr" {
		return nil
	}
	r.Answers, r.Kept = map[string]string{}, map[string]kept{}
	for i, a := range tracked {
		if r.Volumes[a].destroyed() {
			if r.Kept[a], err = keptOf(w.data(a)); err != nil {
				return err
			}
		}
		for _, b := range tracked[i+1:] {
			r.Answers[a+" to "+b] = w.changed(a, b)
		}
	}
	return nil
}

// tracked lists the volumes with changed block tracking that have a name.
func (r *repository) tracked() (all []string) {
	for name, v := range r.Volumes {
		if v.flag("cbt") && !strings.HasPrefix(name, "new") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// flag is a member of the record.
func (v volume) flag(name string) bool {
	members, _ := v.Record.(map[string]any)
	on, _ := members[name].(bool)
	return on
}

func (v volume) destroyed() bool { return v.flag("data_destroyed") }

// changed is what list_changed_blocks answers: a digit for each block.
func (w *world) changed(a, b string) string {
	answer, err := cbt.ListChangedBlocks(context.Background(), w.handle("sr"), w.keys[a], w.keys[b], 0, -1)
	if errors.Is(err, fault.ErrNotAttached) {
		return ""
	}
	bits, e := base64.StdEncoding.DecodeString(answer.Bitmap)
	if err = errors.Join(err, e); err != nil {
		text := err.Error()
		for name, key := range w.keys {
			text = strings.ReplaceAll(text, string(key), name)
		}
		return text
	}
	digits := ""
	for _, b := range bits {
		digits += fmt.Sprintf("%08b", b)
	}
	return digits
}

// keptOf reads what a file has.
func keptOf(path string) (k kept, err error) {
	f, err := os.Open(path)
	if err != nil {
		return k, err
	}
	defer f.Close()
	add := func(list []int64, e extent.Extent) []int64 {
		for b := e.Logical / block; b*block < e.Logical+e.Length; b++ {
			if len(list) == 0 || list[len(list)-1] < b {
				list = append(list, b)
			}
		}
		return list
	}
	err = extent.Each(f, func(e extent.Extent) bool {
		k.Blocks = add(k.Blocks, e)
		if !e.Shared() {
			k.Alone = add(k.Alone, e)
		}
		return true
	})
	return k, err
}

// untrue tells where an answer says that a block has not changed, and it has.
func (w *world) untrue(r *repository) (wrong []string) {
	tracked := r.tracked()
	contents := map[string][]byte{}
	for _, name := range tracked {
		data := w.truth[name]
		if data == nil {
			var err error
			if data, err = os.ReadFile(w.data(name)); err != nil {
				return []string{err.Error()}
			}
		}
		contents[name] = data
	}
	for i, a := range tracked {
		for _, b := range tracked[i+1:] {
			answer := r.Answers[a+" to "+b]
			x, y := contents[a], contents[b]
			for n := 0; n*block < len(y); n++ {
				differs := !bytes.Equal(piece(x, n), piece(y, n))
				if differs && (n >= len(answer) || answer[n] != '1') {
					wrong = append(wrong, fmt.Sprintf("block %d of %s is not that of %s, and list_changed_blocks tells %q", n, b, a, answer))
				}
			}
		}
	}
	return wrong
}

// piece is a block of a disk.
func piece(disk []byte, n int) []byte {
	return disk[min(n*block, len(disk)):min((n+1)*block, len(disk))]
}

// steady says whether what is known of volumes that stay as they are stays as well, and
// what is of no use is given back.
func steady(before, after *repository) error {
	for name, k := range after.Kept {
		if len(k.Alone) > 0 {
			return fmt.Errorf("%s has the blocks %d still, and nobody shares them", name, k.Alone)
		}
	}
	for pair, answer := range before.Answers {
		a, b, _ := strings.Cut(pair, " to ")
		now, there := after.Answers[pair]
		written := !before.Volumes[a].alike(after.Volumes[a]) || !before.Volumes[b].alike(after.Volumes[b])
		if there && answer != "" && !written && now != answer {
			return fmt.Errorf("what has changed from %s was told as %s, and now is as %s", pair, answer, now)
		}
	}
	return nil
}

// alike says whether two states of a volume have the same data, as far as it matters.
func (v volume) alike(now volume) bool {
	return now.destroyed() || v.Size == now.Size && v.Sum == now.Sum
}
