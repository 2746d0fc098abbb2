package check

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Report is what a look over an SR found.
type Report struct {
	Attached bool      // on this host
	Gone     bool      // the SR was destroyed, and is not erased yet
	Volumes  int       // how many there are
	Problems []Problem // what is not as it should be
	Notes    []Problem // what is, but worth knowing

	DataDestroyed []sr.Key // volumes of which package snapshot knows more
}

// Volumes is the problems of Examine.
func Volumes(s *sr.SR) ([]Problem, error) {
	r, err := ExamineVolumes(s)
	return r.Problems, err
}

// ExamineVolumes looks over a whole SR, attached or not. It writes nothing. What calls are
// doing at the same time is told from what interrupted calls left: a problem is one
// only if it is still there while no call changes the volume.
func ExamineVolumes(s *sr.SR) (Report, error) {
	survey, err := SurveyOf(s)
	if err != nil {
		return Report{}, err
	}
	var report Report
	report.add(survey.Problems)
	if survey.Destroyed {
		report.Gone = true
		return report, nil
	}
	e := &examination{s: s, survey: survey}
	if err := e.prepare(); err != nil {
		return Report{}, err
	}
	defer e.runtime.Close()
	keys := e.keys()
	all := make([]finding, len(keys))
	errs := make([]error, len(keys))
	volume.Parallel(len(keys), func(i int) { all[i], errs[i] = e.confirmed(keys[i]) })
	if err := errors.Join(errs...); err != nil {
		return Report{}, err
	}
	report.Attached = survey.Attached
	for i, f := range all {
		report.add(f.problems)
		if f.there {
			report.Volumes++
		}
		if f.record != nil && f.record.DataDestroyed {
			report.DataDestroyed = append(report.DataDestroyed, keys[i])
		}
	}
	report.add(lineage(keys, all))
	report.add(identity(s, e.me))
	report.sort()
	return report, nil
}

// identity is what is wrong with this host's, as far as it matters to the SR.
func identity(s *sr.SR, me hostinfo.Host) []Problem {
	if !me.Nameless() {
		return nil
	}
	p := Problem{Kind: NoIdentity, Name: "/etc/machine-id", Note: !s.Meta.Filesystem.Clustered(),
		Text:   "this host has no identity but that of its boot: neither INSTALLATION_UUID in /etc/xensource-inventory nor a machine-id",
		Repair: Nothing("systemd-machine-id-setup; an SR that hosts share cannot be attached before")}
	return []Problem{p}
}

func (r *Report) add(problems []Problem) {
	for _, p := range problems {
		if p.Note {
			r.Notes = append(r.Notes, p)
		} else {
			r.Problems = append(r.Problems, p)
		}
	}
}

func (r *Report) sort() {
	for _, list := range [][]Problem{r.Problems, r.Notes} {
		slices.SortStableFunc(list, func(a, b Problem) int { return strings.Compare(a.Name, b.Name) })
	}
}

// Join adds what others found.
func (r *Report) Join(problems []Problem) {
	r.add(problems)
	r.sort()
}

// examination is one look over an SR.
type examination struct {
	s       *sr.SR
	survey  Survey
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
	e.noted, e.leased, e.locked = map[sr.Key]bool{}, keysIn(e.survey.Leases, ""), keysIn(e.survey.Locks, "")
	if e.survey.Elsewhere || !e.survey.Sound {
		return nil // what is noted is of another
	}
	e.runtime, err = rundir.Look(lease.NoteDir)
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
	seen := keysIn(e.survey.Root, ".inf")
	for _, others := range []map[sr.Key]bool{keysIn(e.survey.Root, ""), e.leased, e.locked, e.noted} {
		for key := range others {
			seen[key] = true
		}
	}
	for key := range e.survey.Staged {
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
	volume, busy, err := Quiet(e.s, key)
	return func() { volume(); note.Unlock() }, busy, err
}

// look looks at everything that has to do with one volume.
func (e *examination) look(key sr.Key) (f finding, err error) {
	if f.there, err = e.s.Root.Exists(sr.Record(key)); err != nil {
		return f, err
	}
	if f.there {
		if err := e.lookAtVolume(key, &f); err != nil {
			return f, err
		}
	}
	staged := e.survey.Staged[key]
	if len(staged) > 0 {
		unfinished, err := unfinished(e.s, key, staged)
		if err != nil {
			return f, err
		}
		f.add(unfinished...)
	}
	if !f.there && len(f.problems) == 0 {
		orphan, err := e.orphan(key)
		if err != nil {
			return f, err
		}
		f.add(orphan...)
	}
	f.add(exposedFiles(e.s, key)...)
	for _, name := range []string{sr.Data(key), sr.Record(key)} {
		f.add(Unchangeable(e.s.Root, name, name, key)...)
	}
	if err := e.lookAtUse(key, &f); err != nil {
		return f, err
	}
	return f, e.lookAtLock(key, &f)
}

// orphan is data that belongs to no volume, past or future.
func (e *examination) orphan(key sr.Key) ([]Problem, error) {
	if _, err := e.s.Root.Stat(sr.Data(key)); fault.Unseen(err) {
		return nil, err
	} else if err != nil {
		return nil, nil // none, or a directory or link of somebody's
	}
	if e.s.Staging != nil {
		if staged, err := e.s.Staging.Exists(sr.Record(key)); err != nil || staged {
			return nil, err // it was on its way in or out, and the next look tells
		}
	}
	return []Problem{{Kind: Orphan, Name: sr.Data(key), Key: key,
		Text:   "data without a record, which is no volume",
		Repair: Nothing(fmt.Sprintf("it may be the only copy of something: give it a record %s to make it a volume, or move it away", sr.Record(key)))}}, nil
}

// passing says that something could not be looked at for a reason that is not its own, as
// that this process may open no more files: it is as well as before. What a disk does not
// give is told as damage, and does not keep the rest from being checked.
func passing(err error) bool { return fault.Unseen(err) && !fault.IsIO(err) }

// lookAtVolume looks at record and data.
func (e *examination) lookAtVolume(key sr.Key, f *finding) error {
	damage := func(name string, err error) {
		f.add(Problem{Kind: Damage, Name: name, Key: key, Text: err.Error(), Repair: Nothing("restore it from a backup; what is there is left as it is")})
	}
	r, err := volume.Load(e.s, key)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		f.there = false
		return nil
	}
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Record(key), err)
	}
	f.record = r
	if r != nil && r.Format > layout.Format {
		f.add(Problem{Kind: NewerFormat, Name: sr.Record(key), Key: key, Note: true,
			Text: fmt.Sprintf("its record has format %d, this version knows %d: the volume is read-only here", r.Format, layout.Format), Repair: Nothing("update reflinksr on this host")})
	}
	st, err := volume.StatData(e.s, key)
	switch {
	case errors.Is(err, fault.ErrVolumeNotFound):
		*f = finding{}
		return nil
	case passing(err):
		return err
	case err != nil:
		if !slices.Contains(e.survey.Staged[key], "") { // else it is there, and unfinished
			damage(sr.Data(key), err)
		}
		return nil
	}
	if r == nil {
		return nil
	}
	exposed, err := e.exposure(key, r, st)
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Record(key), err)
	}
	f.add(exposed...)
	f.add(sizes(key, r, st.Size)...)
	err = e.lookAtData(key, f)
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Data(key), err)
	}
	return nil
}

// exposure is about who can read record and data. Those of an adopted volume are
// the operator's until it is changed.
func (e *examination) exposure(key sr.Key, r *volume.Record, data *unix.Stat_t) (problems []Problem, err error) {
	record, err := e.s.Root.Stat(sr.Record(key))
	if fault.Unseen(err) {
		return nil, err
	}
	if err != nil {
		return nil, nil // it changes at this moment
	}
	for name, st := range map[string]*unix.Stat_t{sr.Record(key): record, sr.Data(key): data} {
		text := Exposure(st)
		switch {
		case text == "":
		case r.Format >= 1:
			problems = append(problems, Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Repairable: true, Repair: "chown root, chmod 0600"})
		default:
			problems = append(problems, Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Note: true,
				Repair: Nothing("the volume was adopted and its files are yours: chmod 0600 them if nobody else needs them")})
		}
	}
	return problems, nil
}

// sizes compares the data's length with what the record says. No call of ours, at
// whatever moment it is interrupted, leaves data shorter than that.
func sizes(key sr.Key, r *volume.Record, size int64) (problems []Problem) {
	switch told := int64(r.Size); {
	case size < told:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Data(key), Key: key,
			Text:   fmt.Sprintf("the data has %d bytes, its record says %d: it was cut short by something else", size, told),
			Repair: Nothing("restore the data from a backup; truncate -s makes it long enough to be attached, with zeros for what is lost")})
	case size > told && r.Format >= 1 && r.Format <= layout.Format:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Record(key), Key: key, Note: true, Repairable: true,
			Text: fmt.Sprintf("its record says %d bytes, the data has %d, which is what counts", told, size), Repair: "corrects the record"})
	case size > told:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Record(key), Key: key, Note: true,
			Text:   fmt.Sprintf("its record says %d bytes, the data has %d, which is what counts", told, size),
			Repair: Nothing("the record is not of our making; the next change of the volume corrects it")})
	}
	if size%volume.SizeUnit == 0 {
		return problems
	}
	p := Problem{Kind: WrongSize, Name: sr.Data(key), Key: key, Note: true,
		Text:   fmt.Sprintf("the data has %d bytes, which is no multiple of %d", size, volume.SizeUnit),
		Repair: Nothing("it is rounded up when the volume is next attached for writing")}
	if !r.Created.IsZero() {
		p.Note, p.Text = false, p.Text+": it was not so when it was made" // an adopted volume may be so
	}
	return append(problems, p)
}

// lookAtData opens the data as whoever uses the volume must.
func (e *examination) lookAtData(key sr.Key, f *finding) error {
	data, err := volume.OpenData(e.s, key, unix.O_RDONLY)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer data.Close()
	if f.attrs, err = reflink.AttributesOf(data); err != nil {
		return err
	}
	if f.bare, err = reflink.Unchecked(data); err != nil {
		return err
	}
	f.looked = true
	if f.bare && !f.attrs.NoCOW {
		f.add(Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
			Text:   "its blocks have no checksums, though it is copied on write: it was made while the filesystem was mounted with nodatasum",
			Repair: Nothing("its snapshots and clones have none either; a copy of its contents to a new disk has what the SR's option datacow says")})
	}
	limited, err := reflink.COWExtentsLimited(data)
	if err == nil && !limited {
		f.add(Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
			Text:   "it has no copy-on-write extent size hint: what is written after a snapshot takes more space than needed",
			Repair: Nothing("the next snapshot of the volume sets it")})
	}
	return err
}

// lookAtUse looks at leases, throw-away disks, devices and what this host notes.
func (e *examination) lookAtUse(key sr.Key, f *finding) error {
	if !e.survey.Sound {
		return nil
	}
	// Devices before the note: attach notes before it binds, detach forgets after it
	// has unbound.
	devices, err := e.devices(key)
	if err != nil {
		return err
	}
	var note lease.Note
	if e.noted[key] || e.leased[key] || len(devices) > 0 || len(e.survey.Staged[key]) > 0 {
		note, err = e.note(key)
	}
	if fault.Unseen(err) {
		return err
	}
	if err != nil {
		f.add(Problem{Kind: RuntimeNote, Name: e.noteFile(key), Key: key,
			Text:   fmt.Sprintf("what is attached on this host cannot be read: %v", err),
			Repair: Nothing("detach the volume from all its domains")})
		return nil
	}
	if e.noted[key] && !f.there && !note.Empty() {
		f.add(e.noteWithoutVolume(key, note)...)
	}
	if len(devices) > 0 && len(note.Domains) == 0 {
		// Both again: between the two looks a detach may have ended.
		if devices, err = e.devices(key); err != nil {
			return err
		}
	}
	if err := lease.InPlaceAmong(e.s, key, note, e.bound); errors.Is(err, fault.ErrDamaged) {
		// Who only looked for the file may have told it: that it is to be restored is not true.
		f.problems = slices.DeleteFunc(f.problems, func(p Problem) bool { return p.Kind == Damage && p.Text == err.Error() })
		f.add(Problem{Kind: Damage, Name: sr.Data(key), Key: key, Text: err.Error(),
			Repair: Nothing("what is right only you can tell")})
	} else if err != nil {
		return err
	}
	f.add(e.formerIdentity(key, note)...)
	for _, d := range devices {
		if len(note.Domains) > 0 {
			break
		}
		p := Problem{Kind: LeakedDevice, Name: d.Path(), Key: key, Text: "it is bound to the volume's data, but no domain of this host has the volume",
			Repair: Nothing("somebody may be using it; losetup -d " + d.Path() + " when nobody does")}
		if note.Stuck {
			p.Text, p.Repair, p.Repairable = "it could not be unbound when the last domain was detached", "unbinds it", true
		}
		f.add(p)
	}
	left, err := e.nonpersistent(key, note, f.there)
	if err != nil {
		return err
	}
	f.add(left...)
	return e.lookAtLease(key, note, f)
}

// note reads what this host notes of the volume.
func (e *examination) note(key sr.Key) (lease.Note, error) {
	if e.runtime == nil {
		return lease.Note{}, nil
	}
	return lease.ReadNote(e.runtime, lease.NoteName(e.s.Meta.UUID, key))
}

func (e *examination) noteFile(key sr.Key) string {
	return rundir.Path + "/" + lease.NoteDir + "/" + lease.NoteName(e.s.Meta.UUID, key) + ".json"
}

// devices are those of the volume's files.
func (e *examination) devices(key sr.Key) (all []loop.Device, err error) {
	note, err := e.note(key)
	if err != nil {
		note = lease.Note{} // it is told of elsewhere
	}
	for dir, name := range map[*dirfs.Dir]string{e.s.Root: sr.Data(key), e.s.Staging: note.NonpersistentName(key, e.me)} {
		if dir == nil || !e.bound.Any(string(key)) {
			continue
		}
		st, err := dir.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if st == nil {
			return nil, err
		}
		found, err := e.bound.Of(st.Dev, st.Ino, string(key))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// formerIdentity notes that this host was called otherwise, in this boot, when the volume
// was activated or opened: it stays usable, but other hosts and old records know it by that.
func (e *examination) formerIdentity(key sr.Key, note lease.Note) []Problem {
	former := ""
	for _, h := range note.Active {
		if h.Here(e.me) && h.Host != e.me.UUID {
			former = h.Host
		}
	}
	if note.Nonpersistent && note.Host != "" && note.Host != e.me.UUID {
		former = note.Host
	}
	if former == "" {
		return nil
	}
	return []Problem{{Kind: NoIdentity, Name: e.noteFile(key), Key: key, Note: true,
		Text:   fmt.Sprintf("this host had another identity, %s, when the volume was activated or opened; it is %s now", lease.Plain(former), e.me.UUID),
		Repair: Nothing("the volume can be used and given back as it is; if INSTALLATION_UUID in /etc/xensource-inventory or /etc/machine-id was not changed on purpose, put it back")}}
}

// noteWithoutVolume is what this host notes of a volume that is not there.
func (e *examination) noteWithoutVolume(key sr.Key, note lease.Note) []Problem {
	p := Problem{Kind: RuntimeNote, Name: e.noteFile(key), Key: key, Repairable: true,
		Text: "this host notes who has the volume attached, but the volume is no more", Repair: "removes the note"}
	devices, err := e.bound.Of(note.Dev, note.Ino, string(key))
	if err != nil || len(devices) > 0 {
		p.Repairable, p.Repair = false, Nothing("its device is still there: detach the volume from all its domains")
	}
	return []Problem{p}
}

// nonpersistent judges the throw-away disks of a volume; those of a volume that is no
// more are unfinished.
func (e *examination) nonpersistent(key sr.Key, note lease.Note, there bool) (problems []Problem, err error) {
	for _, kind := range e.survey.Staged[key] {
		host, ok := strings.CutSuffix(kind, sr.NonpersistentSuffix)
		if !ok || !there {
			continue
		}
		exists, err := e.s.Staging.Exists(string(key) + kind)
		if err != nil {
			return nil, err
		}
		if !exists {
			continue
		}
		p := Problem{Kind: LeftDisk, Name: ".reflinksr/staging/" + string(key) + kind, Key: key, Repairable: true, Repair: "removes it"}
		switch own := string(key)+kind == note.NonpersistentName(key, e.me); {
		case !own && !e.s.Meta.Filesystem.Clustered():
			p.Text = "a throw-away disk of host " + strings.TrimPrefix(host, ".") + ", or of this one when it had another identity: only one host at a time can have this filesystem mounted, and that is this one"
		case !own:
			p.Note, p.Repairable = true, false
			p.Text, p.Repair = "a throw-away disk of host "+strings.TrimPrefix(host, "."), Nothing("it is that host's, which removes it at Datapath.close or SR.attach")
		case !note.Nonpersistent:
			p.Text = "a throw-away disk of this host that nobody has: of a former boot, or of an interrupted Datapath.open or close"
		case note.Used && len(note.Domains) == 0:
			p.Note = true
			p.Text = "a throw-away disk of this host that has served its guest: Datapath.close has not been called yet"
		default:
			continue
		}
		problems = append(problems, p)
	}
	return problems, nil
}

// lookAtLease compares a lease with what there is.
func (e *examination) lookAtLease(key sr.Key, note lease.Note, f *finding) error {
	if !e.leased[key] {
		return nil
	}
	p := Problem{Kind: StaleLease, Name: ".reflinksr/leases/" + string(key), Key: key}
	l, err := lease.ReadFile(e.s, key)
	switch {
	case errors.Is(err, fault.ErrNewer):
		p.Kind, p.Text, p.Repair = NewerFormat, err.Error(), Nothing("update reflinksr on this host")
		f.add(p)
		return nil
	case errors.Is(err, fault.ErrDamaged) && f.there:
		p.Kind, p.Text, p.Repair = Damage, err.Error(), Nothing("nobody knows who has the volume: srctl lease break, when it is certain that nobody does")
		f.add(p)
		return nil
	case err != nil && !errors.Is(err, fault.ErrDamaged):
		return err
	}
	if !f.there {
		if there, err := e.s.Leases.Exists(string(key)); err != nil || !there || len(e.survey.Staged[key]) > 0 {
			return err // gone meanwhile, or recovery takes it along
		}
		p.Text, p.Repairable, p.Repair = "a lease of a volume that is no more", true, "removes it"
		if data, err := e.s.Root.Exists(sr.Data(key)); err != nil || data {
			p.Repairable, p.Repair = false, Nothing("the volume's data is still there: see what is said of that")
		}
		f.add(p)
		return nil
	}
	for _, h := range l.Holders {
		if text := e.stale(h, note); text != "" {
			p.Text, p.Repairable, p.Repair = text, true, "takes this host's part of the lease back; those of other hosts stay"
			if !e.s.Meta.Filesystem.Clustered() {
				p.Repair = "removes whoever is not of this boot of this host from the lease; domains that have the volume here stay"
				// Since it was attached calls take it for that host's, as the toolstack expects.
				p.Note = e.survey.Attached && h.Claim(e.me, hostinfo.ThisHardware, e.s.Meta.Filesystem) == lease.Elsewhere
			}
			f.add(p)
			return nil
		}
	}
	return nil
}

// stale says why a holder is none.
func (e *examination) stale(h lease.Holder, note lease.Note) string {
	local := !e.s.Meta.Filesystem.Clustered()
	switch h.Claim(e.me, hostinfo.ThisHardware, e.s.Meta.Filesystem) {
	case lease.Elsewhere:
		if local {
			return fmt.Sprintf("a lease of another host, or of this one when it had another identity: %s; but only one host at a time can have this filesystem mounted, and that is this one", h)
		}
		return "" // only that host knows
	case lease.Over:
		return fmt.Sprintf("a lease of a former boot of this host: %s", h)
	}
	if own, active := note.Holder(h.Domain); active && own.Write == h.Write {
		return ""
	}
	return fmt.Sprintf("a lease of this host that nobody has here: %s", h)
}

// lookAtLock looks for a lock file that nothing needs.
func (e *examination) lookAtLock(key sr.Key, f *finding) error {
	if !e.locked[key] || f.there || len(e.survey.Staged[key]) > 0 {
		return nil
	}
	working, err := Working(e.s, key)
	if err != nil || working {
		return err
	}
	if there, err := e.s.Locks.Exists(string(key)); err != nil || !there {
		return err
	}
	f.add(Problem{Kind: StaleLock, Name: ".reflinksr/locks/" + string(key), Key: key, Note: true, Repairable: true,
		Text: "a lock file of a volume that is no more", Repair: "removes it"})
	return nil
}

// lineage looks where the volumes say that they come from.
func lineage(keys []sr.Key, all []finding) (problems []Problem) {
	records, there := make(map[sr.Key]*finding, len(all)), make(map[sr.Key]bool, len(all))
	for i := range all {
		there[keys[i]] = all[i].there
		if all[i].record != nil {
			records[keys[i]] = &all[i]
		}
	}
	inCircle := circles(records)
	for _, key := range keys {
		f := records[key]
		if f == nil || f.record.Origin == nil || f.record.Format > layout.Format {
			continue
		}
		add := func(kind ProblemKind, note bool, repair, format string, args ...any) {
			problems = append(problems, Problem{Kind: kind, Name: sr.Record(key), Key: key, Note: note, Text: fmt.Sprintf(format, args...), Repair: Nothing(repair)})
		}
		const record = "correct origin in the record, or make it null: the data does not depend on it"
		o := f.record.Origin
		of := records[o.Of]
		_, malformed := sr.ParseKey(string(o.Of))
		switch {
		case o.Kind != volume.Snapshot && o.Kind != volume.Clone && o.Kind != volume.Copy:
			add(Lineage, false, record, "its origin is of the unknown kind %q", o.Kind)
		case malformed != nil:
			add(Lineage, false, record, "its origin is %q, which is no key", o.Of)
		case inCircle[key]:
			add(Lineage, false, record, "it is its own origin, by way of %s", o.Of)
		case !there[o.Of]:
			add(Lineage, true, "that is normal, its data is complete", "it is a %s of %s, which is no more or is in another SR", o.Kind, o.Of)
		}
		if of == nil {
			continue
		}
		if of.record.SectorSize != f.record.SectorSize {
			add(WrongSector, true, "it stays so for the volume's life", "it has sectors of %d bytes, its origin %s of %d: neither can be reverted to the other", f.record.SectorSize, o.Of, of.record.SectorSize)
		}
		if of.bare != f.bare && f.looked && of.looked {
			problems = append(problems, Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
				Text:   fmt.Sprintf("nodatacow is %v, for its origin %s it is %v: one of the two has checksums, the other has none, so they share no blocks and cannot be composed", f.attrs.NoCOW, o.Of, of.attrs.NoCOW),
				Repair: Nothing("a file that is not empty cannot be given checksums, nor lose them; a revert makes the one as the other is")})
		}
	}
	return problems
}

// circles finds the volumes whose origins lead back to them.
func circles(records map[sr.Key]*finding) map[sr.Key]bool {
	in := map[sr.Key]bool{}
	walk := make(map[sr.Key]sr.Key, len(records)) // where the walk that came by had begun
	for start := range records {
		at := start
		for walk[at] == "" {
			walk[at] = start
			f := records[at]
			if f == nil || f.record.Origin == nil {
				break
			}
			at = f.record.Origin.Of
		}
		if f := records[at]; walk[at] != start || f == nil || f.record.Origin == nil {
			continue
		}
		// This very walk has come back to where it was.
		for ; !in[at]; at = records[at].record.Origin.Of {
			in[at] = true
		}
	}
	return in
}
