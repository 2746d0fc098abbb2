package check

import (
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// examination is one look over an SR.
type examination struct {
	s       *sr.SR
	survey  survey
	me      hostinfo.Host
	bound   loop.Bound
	runtime *dirfs.Dir      // notes of this host; nil if there are none, or none of this SR
	noted   map[sr.Key]bool // keys of those
	leased  map[sr.Key]bool
	locked  map[sr.Key]bool
}

func (e *examination) prepare() (err error) {
	if e.me, err = hostinfo.ThisHost(); err != nil {
		return err
	}
	if e.bound, err = lease.BoundNear(e.s); err != nil {
		return err
	}
	e.noted, e.leased, e.locked = map[sr.Key]bool{}, keysIn(e.survey.leases, ""), keysIn(e.survey.locks, "")
	if e.survey.elsewhere || !e.survey.sound {
		return nil // what is noted is of another
	}
	e.runtime, err = rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := e.runtime.Names()
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, lease.NoteName(e.s.Meta.UUID, "")); ok {
			if rest, ok = strings.CutSuffix(rest, ".json"); ok {
				e.noted[sr.Key(rest)] = true
			}
		}
	}
	return err
}

// keysIn are the keys among names that end so.
func keysIn(names []string, suffix string) map[sr.Key]bool {
	keys := make(map[sr.Key]bool, len(names))
	for _, name := range names {
		base, ok := strings.CutSuffix(name, suffix)
		if key, err := sr.ParseKey(base); ok && err == nil {
			keys[key] = true
		}
	}
	return keys
}

// keys are all that anything tells of, sorted.
func (e *examination) keys() []sr.Key {
	seen := keysIn(e.survey.root, ".inf")
	for _, others := range []map[sr.Key]bool{keysIn(e.survey.root, ""), e.leased, e.locked, e.noted} {
		for key := range others {
			seen[key] = true
		}
	}
	for key := range e.survey.staged {
		seen[key] = true
	}
	keys := make([]sr.Key, 0, len(seen))
	for key := range seen {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// finding is what one volume looks like.
type finding struct {
	there    bool
	record   *volume.Record // nil if it cannot be read
	data     *unix.Stat_t   // nil if it cannot be looked at
	note     lease.Note     // of this host; known to the rules of use
	devices  []loop.Device  // of this host; the same
	attrs    reflink.Attributes
	looked   bool // attrs and bare are known
	bare     bool // its blocks have no checksums
	problems []Problem
}

func (f *finding) add(p ...Problem) { f.problems = append(f.problems, p...) }

func (f *finding) wrong() bool {
	return slices.ContainsFunc(f.problems, func(p Problem) bool { return !p.Note })
}

// confirmed looks at a volume, and if something is wrong looks again while no call is
// at it.
func (e *examination) confirmed(key sr.Key) (finding, error) {
	f, err := e.look(key)
	if err != nil || !f.wrong() {
		return f, err
	}
	unlock, busy, err := e.quiet(key)
	if err != nil {
		return f, err
	}
	defer unlock()
	if f, err = e.look(key); err != nil {
		return f, err
	}
	for i, p := range f.problems {
		if !p.Note {
			f.problems[i] = p.During(busy)
		}
	}
	return f, nil
}

// quiet keeps calls away from the volume, those of its datapath as well.
func (e *examination) quiet(key sr.Key) (release func(), busy string, err error) {
	var note *dirfs.Lock // on this host
	if e.runtime != nil {
		note, busy, err = e.runtime.LookLock(lease.NoteName(e.s.Meta.UUID, key) + ".lock")
		if err != nil || busy != "" {
			return func() {}, busy, err
		}
	}
	volume, busy, err := quiet(e.s, key)
	return func() { volume(); note.Unlock() }, busy, err
}

// passing says that something could not be looked at for a reason that is not its own, as
// that this process may open no more files: it is as well as before. What a disk does not
// give is told as damage, and does not keep the rest from being checked.
func passing(err error) bool { return fault.Unseen(err) && !fault.IsIO(err) }
