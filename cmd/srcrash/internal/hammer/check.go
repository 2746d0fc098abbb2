package hammer

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// part is a history of volumes that can be judged without the others.
//
// A family (a volume and all that was derived from it) falls apart into such parts:
// what a derived volume was at first is known completely before anybody else can
// change it, from the answer and from its data, so that its making is one look at
// all of its source at one moment, and a birth with nothing left open. Only a
// volume that was reverted to a writable one is judged together with that.
type part struct {
	keys  []string // the volumes
	steps []*step
}

// parts takes a history apart. The error is a violation that needs no model.
func parts(history []*Event) ([]*part, []error) {
	d := divider{births: map[string]*step{}, of: map[string]string{}}
	d.findBirths(history)
	for _, e := range history {
		if source := d.births[e.From]; e.reverts() && source != nil && source.seen.ReadWrite {
			d.join(e.Key, e.From)
		}
	}
	d.parts = map[string]*part{}
	for _, key := range slices.Sorted(maps.Keys(d.births)) {
		b := d.births[key]
		p := d.part(key)
		p.keys = append(p.keys, key)
		d.add(key, b)
	}
	for _, e := range history {
		d.divide(e)
	}
	var all []*part
	for _, root := range slices.Sorted(maps.Keys(d.parts)) {
		all = append(all, d.parts[root])
	}
	return all, d.violations
}

type divider struct {
	births     map[string]*step
	ends       map[string]int64  // when a destruction was answered
	of         map[string]string // key → another key of the same part
	parts      map[string]*part
	violations []error
}

func (d *divider) violation(format string, args ...any) {
	d.violations = append(d.violations, fmt.Errorf(format, args...))
}

// findBirths finds every volume that there ever was.
func (d *divider) findBirths(history []*Event) {
	d.ends = map[string]int64{}
	dead := map[string][]*Event{} // calls that were killed before they told what they made
	id := func(method, what string) string { return method + " " + what }
	claims := map[string]int{}
	for _, e := range history {
		switch {
		case e.Method == "Volume.destroy" && e.Answer == OK:
			if end, ok := d.ends[e.Key]; !ok || e.Return < end {
				d.ends[e.Key] = e.Return
			}
		case e.makes() && e.Answer == OK:
			if d.births[e.New] != nil {
				d.violation("two calls made the volume %s", e.New)
			}
			d.births[e.New] = &step{event: e, role: birth, call: e.Call, ret: e.Return, seen: e.Seen}
		case e.Method == "Volume.create" && e.Answer == Killed:
			dead[id(e.Method, e.Text)] = append(dead[id(e.Method, e.Text)], e)
		case e.derives() && e.Answer == Killed:
			dead[id(e.Method, e.Key)] = append(dead[id(e.Method, e.Key)], e)
		}
	}
	for _, e := range history {
		if e.Method != stray {
			continue
		}
		claim := id(e.Text, e.From)
		candidates := dead[claim]
		if claims[claim]++; claims[claim] > len(candidates) {
			d.violation("volume %s is there (%v), as by %s, and no such call made it", e.New, e.Seen, claim)
			continue
		}
		// Whichever of them it was.
		call, ret := candidates[0].Call, candidates[0].Return
		for _, c := range candidates[1:] {
			call, ret = min(call, c.Call), max(ret, c.Return)
		}
		d.births[e.New] = &step{event: e, role: birth, call: call, ret: ret, seen: e.Seen}
	}
}

// join makes one part of the parts of two keys.
func (d *divider) join(a, b string) { d.of[d.root(a)] = d.root(b) }

func (d *divider) root(key string) string {
	for d.of[key] != "" && d.of[key] != key {
		key = d.of[key]
	}
	return key
}

func (d *divider) part(key string) *part {
	root := d.root(key)
	if d.parts[root] == nil {
		d.parts[root] = new(part)
	}
	return d.parts[root]
}

func (d *divider) index(key string) int { return slices.Index(d.part(key).keys, key) }

// add gives a step to the part of a volume.
func (d *divider) add(key string, s *step) {
	p := d.part(key)
	s.vol = d.index(key)
	p.steps = append(p.steps, s)
}

// divide gives an event to the parts that it says something about.
func (d *divider) divide(e *Event) {
	as := func(r role, seen *Seen) *step {
		return &step{event: e, role: r, call: e.Call, ret: e.Return, seen: seen}
	}
	switch {
	case e.Method == "SR.ls":
		if e.Answer == OK {
			d.list(e, as)
		}
		return
	case e.Method == "Volume.create", e.Method == "SR.attach":
		return
	case e.Method == stray:
		if b := d.births[e.New]; b != nil && d.births[e.From] != nil {
			look := as(copied, e.Seen)
			look.call, look.ret = b.call, b.ret
			d.add(e.From, look)
		}
		return
	}
	if d.births[e.Key] == nil {
		d.violation("%v: nobody made that volume", e)
		return
	}
	switch {
	case e.derives():
		switch e.Answer {
		case OK:
			d.add(e.Key, as(copied, e.Seen))
		case NoVolume:
			d.add(e.Key, as(missed, nil))
		case NoData:
			d.add(e.Key, as(hollow, nil))
		}
	case e.Method == "Volume.stat":
		switch e.Answer {
		case OK:
			d.add(e.Key, as(sighted, e.Seen))
		case NoVolume:
			d.add(e.Key, as(missed, nil))
		}
	case e.Method == "Volume.revert":
		d.revert(e, as)
	default:
		d.add(e.Key, as(called, nil))
	}
}

// list makes of one SR.ls one look at each volume: it reads them one after another
// without a lock, so that it need not be of one moment for all.
func (d *divider) list(e *Event, as func(role, *Seen) *step) {
	for key, b := range d.births {
		s, there := e.List[key]
		switch end, ended := d.ends[key]; {
		case there:
			d.add(key, as(sighted, &s))
		case b.call > e.Return, ended && end < e.Call:
			// It cannot have been there.
		default:
			d.add(key, as(missed, nil))
		}
	}
	for key, s := range e.List {
		if d.births[key] == nil {
			d.violation("%v: told of volume %s (%v), which no call made that was answered or is there at the end", e, key, s)
		}
	}
}

func (d *divider) revert(e *Event, as func(role, *Seen) *step) {
	source := d.births[e.From]
	if source == nil {
		d.violation("%v: nobody made that snapshot", e)
		return
	}
	s := as(called, nil)
	if source.seen.ReadWrite && e.reverts() {
		d.add(e.Key, s)
		s.from = d.index(e.From)
		return
	}
	// A snapshot's contents never change, and of a refusal they are no matter; that
	// the source is there is a matter of its own.
	s.contents = source.seen
	switch {
	case e.Answer == NoVolume && e.About == e.From:
		d.add(e.From, as(missed, nil))
		return
	case e.Answer == NoData:
		d.add(e.From, as(hollow, nil))
		return
	case e.Answer == NoVolume, e.Answer == Killed:
	default:
		d.add(e.From, as(whole, nil))
	}
	d.add(e.Key, s)
}

// verdict is what came of checking a part.
type verdict struct {
	result porcupine.CheckResult
	part   *part
	prefix int    // how many steps could be put in an order at most
	why    string // if there is no more to say than that
	stuck  []*step
}

// judge judges every part, and returns the verdicts of those that are not right.
type judge func([]*part) []verdict

// linearizable judges parts by whether their calls can have been made one after
// another, each at some moment between its beginning and its end.
func linearizable(all []*part) []verdict { return within(all, checkTimeout) }

// within is linearizable with another limit of time for each part.
func within(all []*part, limit time.Duration) []verdict {
	var bad []verdict
	var mutex sync.Mutex
	var wait sync.WaitGroup
	next := make(chan *part)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for p := range next {
				if v := p.check(limit); v.result != porcupine.Ok {
					mutex.Lock()
					bad = append(bad, v)
					mutex.Unlock()
				}
			}
		})
	}
	for _, p := range all {
		next <- p
	}
	close(next)
	wait.Wait()
	return bad
}

func (p *part) check(limit time.Duration) verdict {
	model := p.model()
	var operations []porcupine.Operation
	for _, s := range p.steps {
		operations = append(operations, porcupine.Operation{ClientId: s.event.Worker, Input: s, Call: s.call, Return: s.ret})
	}
	v := verdict{part: p, result: porcupine.CheckOperationsTimeout(model, operations, limit)}
	if v.result != porcupine.Illegal {
		return v
	}
	// Once more, to find out how far it got.
	_, info := porcupine.CheckOperationsVerbose(model, operations, limit)
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	v.prefix = len(longest)
	placed := map[*step]bool{}
	for _, o := range longest {
		placed[o.Input.(*step)] = true
	}
	for _, s := range p.sorted() {
		if !placed[s] && len(v.stuck) < 16 {
			v.stuck = append(v.stuck, s)
		}
	}
	return v
}

// model is the part's volumes as porcupine wants them.
func (p *part) model() porcupine.Model {
	first := make(world, len(p.keys))
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{first} },
		Step: func(state, input, _ any) []any {
			var all []any
			for _, w := range input.(*step).after(state.(world)) {
				all = append(all, w)
			}
			return all
		},
		Equal: func(a, b any) bool { return slices.Equal(a.(world), b.(world)) },
		Hash:  func(state any) uint64 { return state.(world).hash() },
	}
	return m.ToModel()
}

// sorted is the part's steps in the order in which they began.
func (p *part) sorted() []*step {
	return slices.SortedStableFunc(slices.Values(p.steps), func(a, b *step) int { return cmp.Compare(a.call, b.call) })
}
