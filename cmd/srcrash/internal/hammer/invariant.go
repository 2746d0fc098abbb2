package hammer

import (
	"fmt"
	"strconv"

	"github.com/anishathalye/porcupine"
)

// invariant judges parts by what can be checked however many calls there are at
// once: each property of a volume by itself is never older than what had been
// answered before, nothing vanishes or comes back, and nobody has a volume active
// who must not.
func invariant(all []*part) []verdict {
	var bad []verdict
	for _, p := range all {
		for i := range p.keys {
			if why, stuck := p.wrong(i); why != "" {
				bad = append(bad, verdict{result: porcupine.Illegal, part: p, why: why, stuck: stuck})
				break
			}
		}
	}
	return bad
}

// wrong says what is wrong with one volume's history, and shows where.
func (p *part) wrong(i int) (string, []*step) {
	var steps []*step
	for _, s := range p.sorted() {
		if s.vol == i {
			steps = append(steps, s)
		}
	}
	for _, property := range properties {
		if s := stale(steps, property.of); s != nil {
			return "its " + property.name + " is not what had been answered", []*step{s}
		}
	}
	if s := misplaced(steps); s != nil {
		return "it was there when it had been destroyed, or was missing when it had not", []*step{s}
	}
	return sessionsOf(steps).wrong(steps)
}

// use is what a step does with a property: give it a value, or tell its value.
type use struct {
	writes, reads bool
	value         string // "" for a write of an unknown one
}

// properties are told apart by how a step uses each.
var properties = []struct {
	name string
	of   func(*step) use
}{
	{"name", text("Volume.set_name", true, func(s *Seen) string { return s.Name })},
	{"description", text("Volume.set_description", true, func(s *Seen) string { return s.Description })},
	{"first key", text("0", false, func(s *Seen) string { return s.Keys[0] })},
	{"second key", text("1", false, func(s *Seen) string { return s.Keys[1] })},
	{"size", content("Volume.resize", func(e *Event) string { return fmt.Sprint(e.Size) }, func(s *Seen) string { return fmt.Sprint(s.Size) })},
	{"block", content(writeBlock, func(e *Event) string { return fmt.Sprint(e.Tag) }, func(s *Seen) string {
		if s.Tag == nil {
			return ""
		}
		return fmt.Sprint(*s.Tag)
	})},
}

// text is a property that one call sets; keys are set and unset, and not copied.
func text(setter string, inherited bool, of func(*Seen) string) func(*step) use {
	return func(s *step) use {
		e := s.event
		switch s.role {
		case birth:
			return use{writes: true, value: "=" + of(s.seen)}
		case sighted, copied:
			return use{reads: s.seen != nil && (inherited || s.role == sighted), value: "=" + orNone(s.seen, of)}
		}
		set := e.Method == setter || !inherited && strconv.Itoa(e.Pair) == setter && (e.Method == "Volume.set" || e.Method == "Volume.unset")
		return use{writes: set && took(e), value: "=" + e.Text}
	}
}

// content is a property that a revert brings from elsewhere.
func content(setter string, set func(*Event) string, of func(*Seen) string) func(*step) use {
	return func(s *step) use {
		e := s.event
		switch s.role {
		case birth:
			return use{writes: true, value: of(s.seen)}
		case sighted, copied:
			value := orNone(s.seen, of)
			return use{reads: value != "", value: value}
		}
		switch {
		case e.Method == setter:
			return use{writes: took(e), value: set(e)}
		case e.Method == "Volume.revert":
			return use{writes: took(e), value: orNone(s.contents, of)}
		case e.Method == readBlock && setter == writeBlock:
			return use{reads: true, value: set(e)}
		}
		return use{}
	}
}

func orNone(s *Seen, of func(*Seen) string) string {
	if s == nil {
		return ""
	}
	return of(s)
}

// stale finds a step that told a value that was never given, not yet, or that had
// been replaced, by a call that was answered, before this one began.
func stale(steps []*step, of func(*step) use) *step {
	var writes []*step
	for _, s := range steps {
		if of(s).writes {
			writes = append(writes, s)
		}
	}
	for _, s := range steps {
		u := of(s)
		if !u.reads {
			continue
		}
		replaced := int64(-1) // what was given before this is no more
		for _, w := range writes {
			if w.event.Answer == OK && w.ret < s.call {
				replaced = max(replaced, w.call)
			}
		}
		possible := false
		for _, w := range writes {
			if value := of(w).value; (value == u.value || value == "") && w.call <= s.ret && w.ret >= replaced {
				possible = true
				break
			}
		}
		if !possible {
			return s
		}
	}
	return nil
}

// misplaced finds a step that found a volume that had been destroyed, or did not
// find one that had not.
func misplaced(steps []*step) *step {
	var born, end *step // the first
	for _, s := range steps {
		switch {
		case s.role == birth:
			born = s
		case s.role == called && s.event.Method == "Volume.destroy" && took(s.event):
			if end == nil || s.event.Answer == OK && (end.event.Answer != OK || s.ret < end.ret) {
				end = s
			}
		}
	}
	first := end // the first that may have ended it
	for _, s := range steps {
		if s.role == called && s.event.Method == "Volume.destroy" && took(s.event) && s.call < first.call {
			first = s
		}
	}
	for _, s := range steps {
		there := s.role == sighted || s.role == copied || s.role == called && s.needsVolume()
		missing := s.role == missed || s.role == called && s.event.Answer == NoVolume && s.event.About == s.event.Key
		switch {
		case there && (born == nil || s.ret < born.call || end != nil && end.event.Answer == OK && s.call > end.ret),
			missing && born != nil && s.call > born.ret && (first == nil || s.ret < first.call):
			return s
		}
	}
	return nil
}

// needsVolume says whether the call can only have succeeded with the volume there.
func (s *step) needsVolume() bool { return s.event.Answer == OK && !s.event.ends() }

// span is a time.
type span struct{ from, to int64 }

func (s span) meets(other span) bool { return s.from <= other.to && other.from <= s.to }

const ever = int64(1) << 62

// uses are when domains have a volume: attached at most, active at least.
type uses struct {
	attached []span
	active   []hold
}

type hold struct {
	span
	step   *step
	domain int
	write  bool
}

func sessionsOf(steps []*step) uses {
	var u uses
	type open struct {
		from int64 // first attach; -1: none
		hold int   // index in active; -1: none
	}
	domains := map[int]*open{}
	rw := false
	for _, s := range steps {
		if s.role == birth {
			rw = s.seen.ReadWrite
		}
		if s.role != called || !isDatapath(s.event.Method) {
			continue
		}
		d := domains[s.event.Domain]
		if d == nil {
			d = &open{-1, -1}
			domains[s.event.Domain] = d
		}
		ended := func() {
			if d.hold >= 0 {
				u.active[d.hold].to = s.call
				d.hold = -1
			}
		}
		switch e := s.event; e.Method {
		case "Datapath.attach":
			if d.from < 0 && took(e) {
				d.from = s.call
			}
		case "Datapath.activate", "Datapath.activate_readonly":
			if e.Answer == OK && d.hold < 0 {
				d.hold = len(u.active)
				u.active = append(u.active, hold{span{s.ret, ever}, s, e.Domain, rw && e.Method == "Datapath.activate"})
			}
		case "Datapath.deactivate":
			ended()
		case "Datapath.detach":
			ended()
			if e.Answer == OK && d.from >= 0 {
				u.attached = append(u.attached, span{d.from, s.ret})
				d.from = -1
			}
		}
	}
	for _, d := range domains {
		if d.from >= 0 {
			u.attached = append(u.attached, span{d.from, ever})
		}
	}
	return u
}

func isDatapath(method string) bool { return len(method) > 9 && method[:9] == "Datapath." }

// wrong finds two who had the volume active and must not have it together, a
// destruction or a revert under a domain that had it active, and one that was
// refused when it was attached nowhere.
func (u uses) wrong(steps []*step) (string, []*step) {
	sharable := false
	for _, s := range steps {
		if s.role == birth {
			sharable = s.seen.Sharable
		}
	}
	for i, a := range u.active {
		for _, b := range u.active[:i] {
			if a.meets(b.span) && (a.write || b.write) && !(a.write && b.write && sharable) {
				return "two domains had it active that must not have it together", []*step{b.step, a.step}
			}
		}
	}
	for _, s := range steps {
		if s.role != called || s.event.Method != "Volume.destroy" && s.event.Method != "Volume.revert" {
			continue
		}
		when := span{s.call, s.ret}
		for _, a := range u.active {
			if s.event.Answer == OK && a.from < when.from && when.to < a.to {
				return "it was active all the time", []*step{a.step, s}
			}
		}
		meets := false
		for _, a := range u.attached {
			meets = meets || a.meets(when)
		}
		if s.event.Answer == InUse && !meets {
			return "it was refused as in use, and was attached nowhere", []*step{s}
		}
	}
	return "", nil
}
