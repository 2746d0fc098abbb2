package hammer

import (
	"hash/maphash"
	"slices"
)

// vol is the state of one volume: all that calls can change, and tell.
type vol struct {
	phase        phase
	rw, sharable bool
	name, desc   string
	keys         [2]string
	size         int64
	tag          uint64 // what is in its first block
	cbt          bool   // changed blocks are tracked
	emptied      bool   // its data was destroyed
	attached     uint64 // domains, one bit each
	writers      uint64 // those that have it active
	readers      uint64
	dev          device
}

type phase uint8

const (
	unborn phase = iota
	alive
	gone // for good: keys do not come back
)

// device is whether the volume has one. It follows from attached, but for a call
// that was killed half-way.
type device uint8

const (
	none device = iota
	bound
	fading // it is unbound at its last close, which may be now or later
)

// world is the state of the volumes that are judged together.
type world []vol

func (w world) hash() uint64 {
	var h uint64
	for _, v := range w {
		h = h*31 + maphash.Comparable(hashSeed, v)
	}
	return h
}

var hashSeed = maphash.MakeSeed()

func (w world) with(i int, v vol) world {
	w = slices.Clone(w)
	w[i] = v
	return w
}

// role is what an event means to one volume.
type role uint8

const (
	called  role = iota // its call was for this volume
	birth               // it made this volume
	sighted             // it found the volume there
	copied              // it found the volume there, and copied it
	whole               // it found the volume there, with its data
	hollow              // it found the volume there, without
	missed              // it found no such volume
)

// step is an event's part in the history of some volumes.
type step struct {
	event    *Event
	role     role
	vol      int // which of the volumes
	call     int64
	ret      int64
	seen     *Seen // birth, sighted, copied; nil: nothing but that it is there
	from     int   // Volume.revert: which of the volumes is the source, if content is nil
	contents *Seen // Volume.revert: size and tag of a snapshot, which has them for ever
}

// after is every state that the worlds can be in after the step; none if it is
// impossible now. With an error a call says that it has had no effect. A call that
// was killed had its effect before its process was found dead, or has none: what a
// call shows of itself changes by its own doing only, and recovery just tidies up.
func (s *step) after(w world) []world {
	v := w[s.vol]
	one := func(possible bool) []world {
		if possible {
			return []world{w}
		}
		return nil
	}
	switch s.role {
	case birth:
		if v.phase != unborn {
			return nil
		}
		return []world{w.with(s.vol, born(s.seen))}
	case sighted:
		return one(v.phase == alive && (s.seen == nil || v.like(s.seen)))
	case copied:
		return one(v.phase == alive && !v.emptied && v.copiedAs(s.seen))
	case whole:
		return one(v.phase == alive && !v.emptied)
	case hollow:
		return one(v.phase == alive && v.emptied)
	case missed:
		return one(v.phase != alive)
	}
	if s.event.Method == "Volume.revert" {
		return s.revert(w)
	}
	switch s.event.Answer {
	case OK:
		if next, ok := v.done(s.event); ok {
			return []world{w.with(s.vol, next)}
		}
		return nil
	case Killed:
		all := []world{w}
		for _, next := range v.interrupted(s.event) {
			if next != v {
				all = append(all, w.with(s.vol, next))
			}
		}
		return all
	}
	return one(v.refuses(s.event))
}

func born(s *Seen) vol {
	return vol{
		phase: alive, rw: s.ReadWrite, sharable: s.Sharable, name: s.Name, desc: s.Description,
		keys: s.Keys, size: s.Size, tag: *s.Tag, cbt: s.CBT,
	}
}

// like says whether the volume looks so.
func (v vol) like(s *Seen) bool {
	return v.copiedAs(s) && v.keys == s.Keys && v.rw == s.ReadWrite && v.emptied == s.Emptied
}

// copiedAs says whether a copy of the volume looks so at first.
func (v vol) copiedAs(s *Seen) bool {
	return v.name == s.Name && v.desc == s.Description && v.size == s.Size && v.sharable == s.Sharable && v.cbt == s.CBT && (s.Tag == nil || v.tag == *s.Tag)
}

func (v vol) active() bool { return v.writers|v.readers != 0 }

// done is the state after a call that succeeds, if it can.
func (v vol) done(e *Event) (vol, bool) {
	d := uint64(1) << e.Domain
	if v.phase != alive {
		// What is to be ended has ended already.
		return v, e.ends()
	}
	ok := true
	switch e.Method {
	case "Volume.set_name":
		v.name = e.Text
	case "Volume.set_description":
		v.desc = e.Text
	case "Volume.set":
		v.keys[e.Pair] = e.Text
	case "Volume.unset":
		v.keys[e.Pair] = ""
	case "Volume.resize":
		ok = v.rw && e.Size >= v.size
		v.size = e.Size
	case "Volume.destroy":
		ok = v.dev != bound && !v.active()
		v = vol{phase: gone}
	case "Volume.enable_cbt", "Volume.disable_cbt":
		on := e.Method == "Volume.enable_cbt"
		ok = v.rw || v.cbt == on
		v.cbt = on
	case "Volume.data_destroy":
		ok = v.emptied || !v.rw && v.cbt && v.dev != bound && !v.active()
		v.emptied = true
	case "Datapath.attach":
		ok = !v.emptied
		v.attached |= d
		v.dev = bound
	case "Datapath.activate", "Datapath.activate_readonly":
		write := v.writes(e)
		ok = !v.emptied && v.attached&d != 0 && v.dev == bound && v.admits(d, write)
		if write {
			v.writers |= d
		} else {
			v.readers |= d
		}
	case "Datapath.open":
		ok = !v.emptied // and for a disk that lasts there is nothing to do
	case "Datapath.close":
		// Likewise.
	case "Datapath.deactivate":
		v = v.deactivated(d)
	case "Datapath.detach":
		v = v.detached(d)
		if v.attached == 0 {
			v.dev = none
		}
	case writeBlock:
		ok = v.writers&d != 0
		v.tag = e.Tag
	case readBlock:
		ok = (v.writers|v.readers)&d != 0 && v.tag == e.Tag
	default:
		ok = false
	}
	return v, ok
}

func (v vol) deactivated(d uint64) vol {
	v.writers &^= d
	v.readers &^= d
	return v
}

func (v vol) detached(d uint64) vol {
	v = v.deactivated(d)
	v.attached &^= d
	return v
}

// writes says whether an activation is for writing.
func (v vol) writes(e *Event) bool { return e.Method == "Datapath.activate" && v.rw }

// admits says whether the domain may have the volume active: there is one writer,
// or there are any number of readers; a sharable volume may have several writers.
func (v vol) admits(d uint64, write bool) bool {
	if write {
		return v.writers&d != 0 || v.readers == 0 && (v.writers == 0 || v.sharable)
	}
	return v.readers&d != 0 || v.writers == 0
}

// refuses says whether an error is the right answer.
func (v vol) refuses(e *Event) bool {
	d := uint64(1) << e.Domain
	if e.Answer == NoVolume {
		return v.phase != alive
	}
	if v.phase != alive {
		return false
	}
	if e.Answer == NoData {
		return v.emptied
	}
	switch e.Method {
	case "Volume.enable_cbt", "Volume.disable_cbt":
		return e.Answer == Invalid && !v.rw && v.cbt != (e.Method == "Volume.enable_cbt")
	case "Volume.data_destroy":
		switch {
		case v.emptied:
			return false
		case v.rw:
			return e.Answer == Invalid
		case !v.cbt:
			return e.Answer == NoCBT
		}
		return e.Answer == InUse && (v.dev != none || v.active())
	case "Volume.resize":
		return e.Answer == Invalid && !v.rw || e.Answer == BadSize && v.rw && e.Size < v.size
	case "Volume.destroy":
		return e.Answer == InUse && (v.dev != none || v.active())
	case "Datapath.activate", "Datapath.activate_readonly":
		lost := v.attached&d == 0 || v.dev != bound
		return e.Answer == Invalid && lost || e.Answer == InUse && v.attached&d != 0 && !v.admits(d, v.writes(e))
	}
	return false
}

// interrupted is what else than its old state a killed call can have left.
func (v vol) interrupted(e *Event) []vol {
	var all []vol
	if next, ok := v.done(e); ok {
		all = append(all, next)
	}
	d := uint64(1) << e.Domain
	switch {
	case v.phase != alive:
	case e.Method == "Datapath.attach" && !v.emptied:
		// Noted before the device is bound.
		noted := v
		noted.attached |= d
		all = append(all, noted)
	case e.Method == "Datapath.detach":
		// Deactivated first; then the device goes, before that is noted.
		off := v.deactivated(d)
		all = append(all, off)
		if off.attached&^d == 0 && off.dev == bound {
			off.dev = fading
			all = append(all, off)
		}
	}
	return all
}

// revert is after for Volume.revert, which is about two volumes.
func (s *step) revert(w world) []world {
	e, to := s.event, w[s.vol]
	contents := s.contents
	there := true
	if contents == nil { // joined with its source
		from := w[s.from]
		contents, there = &Seen{Size: from.size, Tag: &from.tag}, from.phase == alive
	}
	switch e.Answer {
	case NoVolume: // or it would be the source's matter
		if to.phase == alive {
			return nil
		}
		return []world{w}
	case Invalid:
		if to.phase == alive && !to.rw {
			return []world{w}
		}
		return nil
	case InUse:
		if to.phase == alive && (to.dev != none || to.active()) {
			return []world{w}
		}
		return nil
	}
	var all []world
	if e.Answer == Killed {
		all = append(all, w)
	}
	if there && to.phase == alive && to.rw && to.dev != bound && !to.active() {
		to.size, to.tag = contents.Size, *contents.Tag
		all = append(all, w.with(s.vol, to))
	}
	return all
}
