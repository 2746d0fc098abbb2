package hammer

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/check"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/owned"
	"reflinksr/sr"
	"reflinksr/volume"
)

// begin makes an SR below dir.
func begin(p rig.Plugin, dir string, seed uint64, load Workload) (*round, error) {
	r := &round{caller: caller{plugin: p, start: time.Now()}, Workload: load, seed: seed}
	r.uuid = uuid.NewString()
	r.path = filepath.Join(dir, fmt.Sprintf("seed-%d", seed))
	if err := os.Mkdir(r.path, 0o700); err != nil {
		return nil, err
	}
	err := p.Call(smapi.SRCreate{UUID: r.uuid, Configuration: map[string]string{"path": r.path}, Name: "hammer"}, &r.configuration)
	if err != nil {
		return nil, err
	}
	return r, p.Call(smapi.SRAttach{Configuration: r.configuration}, &r.sr)
}

// end looks at what is left after the workload: what is there is added to the
// history, to be judged with it; what must not be there is a violation.
func (r *round) end(history []*Event) []*Event {
	w := &worker{round: r, id: r.Workers}
	if list := w.list(0); r.Kills == 0 {
		r.leftovers(list) // nothing was interrupted: there is nothing to recover
	}
	if !w.do(new(Event), smapi.SRAttach{Configuration: r.configuration}, nil, 0) {
		r.violation("the SR could not be attached again: it is left as it is, at %s", r.path)
		return append(history, w.history...)
	}
	list := w.list(0)
	made := map[string]bool{}
	for _, e := range history {
		made[e.New] = true
	}
	for _, key := range slices.Sorted(maps.Keys(list)) {
		w.inspect(key, list[key], made[key])
	}
	r.leftovers(list)
	for _, key := range slices.Sorted(maps.Keys(list)) {
		if err := r.plugin.Call(smapi.VolumeDestroy{SR: r.sr, Key: key}, nil); err != nil {
			r.violation("at the end, with nothing attached: %w", err)
		}
	}
	r.leftovers(nil)
	r.remove()
	return append(history, w.history...)
}

// inspect looks at the contents of a volume that nobody uses any more. One that no
// answered call made is one of a killed call.
func (w *worker) inspect(key string, s Seen, made bool) {
	if !s.Emptied {
		tag, err := dataTag(filepath.Join(w.path, key))
		if err != nil {
			w.violation("at the end: %w", err)
			return
		}
		s.Tag = &tag
	}
	if made {
		w.history = append(w.history, &Event{Worker: w.id, Call: w.now(), Return: w.now(), Method: "Volume.stat", Key: key, Answer: OK, Seen: &s})
		return
	}
	e := &Event{Worker: w.id, Call: w.now(), Return: w.now(), Method: stray, New: key, Answer: OK, Seen: &s, Text: "Volume.create", From: s.Name}
	open, err := sr.Open(w.sr, dirfs.Unlocked)
	if err != nil {
		w.violation("at the end: %w", err)
		return
	}
	defer open.Close()
	record, err := volume.Load(open, sr.Key(key))
	if err != nil {
		w.violation("at the end: %w", err)
		return
	}
	if o := record.Origin; o != nil {
		e.Text, e.From = "Volume."+string(o.Kind), string(o.Of)
	}
	w.history = append(w.history, e)
}

// leftovers finds what is there beside the volumes of the list.
func (r *round) leftovers(list map[string]Seen) {
	bad := func(format string, args ...any) { r.violation("at the end: "+format, args...) }
	open, err := sr.Open(r.sr, dirfs.Unlocked)
	if err != nil {
		bad("%w", err)
		return
	}
	defer open.Close()
	problems, err := check.Volumes(open)
	if err != nil {
		bad("%w", err)
	}
	for _, p := range problems {
		bad("check: %s: %s", p.Name, p.Text)
	}
	for _, dir := range []*dirfs.Dir{open.Root, open.Staging, open.Leases, open.Locks} {
		names, err := dir.Names()
		if err != nil {
			bad("%w", err)
		}
		for _, name := range names {
			key, isRecord := strings.CutSuffix(name, ".inf")
			_, volume := list[key]
			switch {
			case dir == open.Root && (name == "sr.json" || name == ".reflinksr" || volume):
			case dir == open.Locks && volume && !isRecord:
			default:
				bad("%s is left in %s", name, dir.Path())
			}
		}
	}
	devices, err := owned.Loops(owned.Below(r.path))
	if err != nil {
		bad("%w", err)
	}
	for _, l := range devices {
		bad("%s is still bound to %s", l.Path(), l.File)
	}
	if names, err := r.notes(rundir.Volumes); err != nil || len(names) > 0 {
		bad("notes of volumes: %v, %v", names, err)
	}
}

// remove destroys the SR; nothing may stay of it, nor of its use on this host.
func (r *round) remove() {
	for _, call := range []smapi.Request{smapi.SRDestroy{SR: r.sr}, smapi.SRDetach{SR: r.sr}} {
		if err := r.plugin.Call(call, nil); err != nil {
			r.violation("at the end: %w", err)
			return
		}
	}
	if names, err := filesIn(r.path); err != nil || len(names) > 0 {
		r.violation("after SR.destroy: %v, %v", names, err)
	}
	if names, err := r.notes("sr"); err != nil || len(names) > 0 {
		r.violation("after SR.detach, in %s: %v, %v", rundir.Path, names, err)
	}
	os.Remove(r.path)
}

// notes are the files that are about this SR in a directory of rundir.Path.
func (r *round) notes(sub string) ([]string, error) {
	names, err := filesIn(filepath.Join(rundir.Path, sub))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, r.uuid) }), err
}

func filesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
