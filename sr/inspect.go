package sr

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/internal/source"
	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// Inspect opens the SR in a directory to look at it, attached or not. It writes
// nothing, and what is missing or damaged is for Survey to tell: directories that
// are not there are nil, and the Meta of a marker that cannot be read is empty.
// ErrSRNotFound if there is neither a marker nor what is left of one.
func Inspect(path string) (_ *SR, err error) {
	if path, err = layout.CleanPath(path); err != nil {
		return nil, err
	}
	s := &SR{Path: path, Meta: new(layout.Meta)}
	if s.Root, err = source.OpenPath(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	m, err := layout.ReadMeta(s.Root)
	if errors.Is(err, os.ErrNotExist) {
		var there bool
		if there, err = s.Root.Exists(layout.TombstoneFile); err == nil && !there {
			err = s.nothing()
		}
		if err != nil {
			return nil, err
		}
		m, err = layout.ReadDestroyed(s.Root)
	}
	switch {
	case err == nil && m != nil:
		s.Meta = m
	case fault.Classify(err) == nil && err != nil:
		return nil, err // it could not be read at all
	}
	return s, s.openControl()
}

// nothing says what a directory without a marker may be.
func (s *SR) nothing() error {
	there, err := s.Root.Exists(layout.ControlDir)
	if err != nil {
		return err
	}
	if there {
		return fault.Errorf(fault.ErrSRNotFound, s.Path, "%s holds no SR, but an SR's control directory: SR.create was interrupted, then repeat it; or %s was lost, then restore it", s.Path, layout.MarkerFile)
	}
	return fault.Errorf(fault.ErrSRNotFound, s.Path, "%s holds no SR: is its filesystem mounted?", s.Path)
}

// openControl opens what there is of the control directory.
func (s *SR) openControl() (err error) {
	if s.control, err = openPart(s.Root, layout.ControlDir); err != nil || s.control == nil {
		return err
	}
	for name, dir := range s.subdirs() {
		if *dir, err = openPart(s.control, name); err != nil {
			return err
		}
	}
	return nil
}

// openPart opens a subdirectory: nil if there is none.
func openPart(d *dirfs.Dir, name string) (*dirfs.Dir, error) {
	sub, err := d.Sub(name)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	return sub, err
}

// Survey is what an SR consists of, volume by volume or not, and what is wrong with
// the SR as such.
type Survey struct {
	Root, Leases, Locks, CBT []string         // names
	Staged                   map[Key][]string // what staging holds of each volume: see Unfinished
	Problems                 []Problem        // of the SR, not of one volume
	Attached                 bool             // on this host, at this place
	Elsewhere                bool             // attached on this host, but this is a copy of that
	Whole                    bool             // the marker and the place are as they should be
	Destroyed                bool             // there is no SR any more, only files of one
}

// Survey looks over the SR's directories. It writes nothing.
func (s *SR) Survey() (v Survey, err error) {
	add := func(p ...Problem) { v.Problems = append(v.Problems, p...) }
	problems, err := s.surveyMarker()
	if err != nil {
		return v, err
	}
	add(problems...)
	v.Whole = len(problems) == 0
	if v.Destroyed = !v.Whole && problems[0].Name == layout.TombstoneFile; v.Destroyed {
		return v, nil
	}
	if err := s.place(&v); err != nil {
		return v, err
	}
	if problems, err = s.surveyControl(); err != nil {
		return v, err
	}
	add(problems...)
	add(s.exposed(s.Root, layout.MarkerFile, layout.MarkerFile, "")...)
	v.Staged = map[Key][]string{}
	for _, part := range []struct {
		dir *dirfs.Dir
		see func(name string) (ours bool)
	}{
		{s.Staging, func(name string) bool {
			key, kind, ok := stagedName(name)
			if ok {
				v.Staged[key] = append(v.Staged[key], kind)
			}
			return ok || name == layout.MarkerFile+".new"
		}},
		{s.Root, func(name string) bool { v.Root = append(v.Root, name); return true }},
		{s.Leases, func(name string) bool { v.Leases = append(v.Leases, name); return uuids.IsCanonical(name) }},
		{s.CBT, func(name string) bool {
			v.CBT = append(v.CBT, name)
			return uuids.IsCanonical(strings.TrimSuffix(name, PendingCBT))
		}},
		{s.Locks, func(name string) bool { v.Locks = append(v.Locks, name); return uuids.IsCanonical(name) }},
		{s.control, func(name string) bool {
			return s.subdirs()[name] != nil || name == layout.HostsDir || name == "lock" || slices.Contains(layout.ShortLocks, name) || name == layout.DestroyList || name == layout.SequenceFile
		}},
	} {
		if part.dir == nil {
			continue
		}
		names, err := part.dir.Names()
		if err != nil {
			return v, err
		}
		for _, name := range names {
			if dirfs.RemovedOpen(name) && part.dir.Remote() {
				add(Problem{Kind: UnknownFile, Name: s.relative(part.dir, name), Note: true,
					Text: "a file that was removed while a host had it open; NFS keeps it until that host closes it", Repair: Nothing("it goes by itself, or has been left by a host that crashed: then remove it")})
				continue
			}
			if !part.see(name) {
				add(Problem{Kind: UnknownFile, Name: s.relative(part.dir, name), Note: true,
					Text: "not a file of ours", Repair: Nothing("it is somebody's; move it away if nobody misses it")})
			}
		}
	}
	return v, nil
}

// surveyMarker judges the marker and whether the SR is where it was made.
func (s *SR) surveyMarker() ([]Problem, error) {
	m, err := layout.ReadMeta(s.Root)
	one := func(kind ProblemKind, name, text, repair string) ([]Problem, error) {
		return []Problem{{Kind: kind, Name: name, Text: text, Repair: repair}}, nil
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		old, err := layout.ReadDestroyed(s.Root)
		if fault.Unseen(err) {
			return nil, err
		}
		if err != nil || old == nil {
			return one(Damage, layout.TombstoneFile, fmt.Sprintf("what is left of a destroyed SR cannot be read: %v", err), Nothing("whose files these are nobody can tell; remove them by hand"))
		}
		return []Problem{{Kind: Unfinished, Name: layout.TombstoneFile, Repairable: true,
			Text:   fmt.Sprintf("SR %s was destroyed, and SR.destroy was interrupted while it removed its files", old.UUID),
			Repair: "removes the rest of the destroyed SR's files, as SR.attach and SR.create would"}}, nil
	case errors.Is(err, fault.ErrNewer):
		return one(NewerFormat, layout.MarkerFile, err.Error(), Nothing("update reflinksr on this host"))
	case errors.Is(err, fault.ErrUnavailable):
		return one(Damage, layout.MarkerFile, err.Error(), Nothing("restore it from a backup; nothing else in this SR is repaired before"))
	case err != nil:
		return nil, err
	}
	err = (&SR{Path: s.Path, Root: s.Root}).sameFilesystem(m)
	if errors.Is(err, fault.ErrUnavailable) {
		return one(WrongPlace, layout.MarkerFile, err.Error(), Nothing("mount the right filesystem, or srctl rehome; nothing else in this SR is repaired before"))
	}
	return nil, err
}

// place finds out whether the SR is attached on this host, and whether here.
func (s *SR) place(v *Survey) error {
	if s.Meta.UUID == "" {
		return nil
	}
	a, err := attached.Lookup(s.Meta.UUID)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case fault.Unseen(err):
		return err
	case err != nil:
		v.Problems = append(v.Problems, Problem{Kind: RuntimeNote, Name: rundir.Path + "/sr/" + s.Meta.UUID + ".json",
			Text: err.Error(), Repair: Nothing("attach the SR again")})
		return nil
	}
	there, err := dirfs.OpenDir(a.Path)
	if err != nil && (a.Path == s.Path || !fault.Unseen(err)) {
		v.Attached = a.Path == s.Path
		return nil
	}
	if err != nil {
		return fmt.Errorf("SR %s is attached on this host at %s, which cannot be looked at: %w: detach it there first", s.Meta.UUID, a.Path, err)
	}
	defer there.Close()
	one, err := sys.Fstat(there.File())
	if err != nil {
		return err
	}
	two, err := sys.Fstat(s.Root.File())
	if err != nil {
		return err
	}
	v.Attached = one.Dev == two.Dev && one.Ino == two.Ino
	if v.Elsewhere = !v.Attached; v.Elsewhere {
		v.Whole = false
		v.Problems = append(v.Problems, Problem{Kind: WrongPlace, Name: layout.MarkerFile,
			Text:   fmt.Sprintf("SR %s is attached on this host at %s: this is a copy of it", s.Meta.UUID, a.Path),
			Repair: Nothing("remove one of the two; nothing else in this SR is repaired while the other is attached")})
	}
	return nil
}

// surveyControl looks for parts of the control directory that are missing or not
// what they should be.
func (s *SR) surveyControl() (problems []Problem, err error) {
	if alive, err := s.Root.Exists(layout.MarkerFile); err != nil || !alive {
		return nil, err
	}
	var failed error
	judge := func(d *dirfs.Dir, name, path string) {
		st, err := d.Stat(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			problems = append(problems, Problem{Kind: MissingControl, Name: path, Repairable: true,
				Text: "this part of the control directory is missing: it was not restored with the rest, perhaps", Repair: "makes it"})
		case st == nil:
			failed = errors.Join(failed, err)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			problems = append(problems, Problem{Kind: Damage, Name: path, Text: "not a directory", Repair: Nothing("move it away, then repair")})
		default:
			problems = append(problems, tooOpen(st, path, "")...)
		}
	}
	judge(s.Root, layout.ControlDir, layout.ControlDir)
	if s.control == nil || failed != nil {
		return problems, failed
	}
	for _, path := range s.fixed() {
		problems = append(problems, Problem{Kind: OddAttributes, Name: path,
			Text: "it has an attribute that keeps files from being made, renamed or removed in it", Repair: Nothing("chattr -i -a " + path)})
	}
	for name := range s.subdirs() {
		judge(s.control, name, layout.ControlDir+"/"+name)
	}
	readOnly, remedy, err := filesystem.ReadOnly(s.Root)
	if err != nil {
		return problems, err
	}
	if readOnly != "" {
		problems = append(problems, Problem{Kind: ReadOnly, Name: s.Path, Note: true,
			Text: readOnly + ": volumes can be read but not changed", Repair: Nothing(remedy)})
	}
	if failed != nil {
		return problems, failed
	}
	for _, name := range append([]string{"lock", layout.DestroyList, layout.SequenceFile}, layout.ShortLocks...) {
		problems = append(problems, s.exposed(s.control, name, layout.ControlDir+"/"+name, "")...)
	}
	if s.Staging == nil {
		return problems, nil
	}
	there, err := s.Staging.Exists(layout.MarkerFile + ".new")
	if err != nil || !there {
		return problems, err
	}
	busy := ""
	if s.lock == nil {
		var lock *dirfs.Lock
		if lock, busy, err = s.control.LookLockFor("lock", dirfs.Patience); err != nil {
			return problems, err
		}
		lock.Unlock()
		if there, err = s.Staging.Exists(layout.MarkerFile + ".new"); err != nil || !there {
			return problems, err
		}
	}
	p := Problem{Kind: Unfinished, Name: layout.ControlDir + "/staging/" + layout.MarkerFile + ".new", Repairable: true,
		Text: "a new marker, left in staging by an interrupted SR.set_name, SR.set_description or SR.create", Repair: "removes it"}
	return append(problems, p.During(busy)), nil
}

// exposed says whether others than root can get at a file of ours, and whether it is
// one.
func (s *SR) exposed(d *dirfs.Dir, name, path string, key Key) []Problem {
	st, err := d.Stat(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case st == nil:
		return []Problem{{Kind: Damage, Name: path, Key: key, Text: "it cannot be looked at: " + err.Error(), Repair: Nothing("look for the cause in the kernel's log, and check again")}}
	case err != nil:
		return []Problem{{Kind: Damage, Name: path, Key: key, Text: err.Error(), Repair: Nothing("move it away")}}
	}
	return append(tooOpen(st, path, key), Unchangeable(d, name, path, key)...)
}

// Unchangeable notes that a file of ours has an attribute that keeps it from being changed.
func Unchangeable(d *dirfs.Dir, name, path string, key Key) []Problem {
	if fixed, err := filesystem.Fixed(d, name); err != nil || !fixed {
		return nil // gone meanwhile, or there are no attributes
	}
	return []Problem{{Kind: OddAttributes, Name: path, Key: key, Note: true,
		Text: "it has an attribute that keeps it from being changed or removed, which somebody set", Repair: Nothing("chattr -i -a " + d.Join(name) + " when that is not wanted any more")}}
}

func tooOpen(st *unix.Stat_t, path string, key Key) []Problem {
	text := Exposure(st)
	if text == "" {
		return nil
	}
	return []Problem{{Kind: WrongMode, Name: path, Key: key, Text: text, Repairable: true, Repair: "chown root, chmod " + mode(st)}}
}

// Exposed is what is wrong with the mode of a volume's lease, its lock file and its
// files in CBT.
func (s *SR) Exposed(key Key) (problems []Problem) {
	if s.Leases != nil {
		problems = append(problems, s.exposed(s.Leases, string(key), layout.ControlDir+"/leases/"+string(key), key)...)
	}
	if s.Locks != nil {
		problems = append(problems, s.exposed(s.Locks, string(key), layout.ControlDir+"/locks/"+string(key), key)...)
	}
	if s.CBT != nil {
		for _, name := range []string{string(key), string(key) + PendingCBT} {
			problems = append(problems, s.exposed(s.CBT, name, layout.ControlDir+"/cbt/"+name, key)...)
		}
	}
	return problems
}

// Exposure says how the mode and owner of a file or directory differ from those of
// ours: "" if they do not.
func Exposure(st *unix.Stat_t) string {
	if st.Mode&0o777 == want(st) && st.Uid == 0 {
		return ""
	}
	return fmt.Sprintf("its mode is %04o and its owner %d, it should be %s and root's", st.Mode&0o7777, st.Uid, mode(st))
}

func want(st *unix.Stat_t) uint32 {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 0o700
	}
	return 0o600
}

func mode(st *unix.Stat_t) string { return fmt.Sprintf("%04o", want(st)) }

func (s *SR) relative(d *dirfs.Dir, name string) string {
	if s.control != nil && d == s.control {
		return layout.ControlDir + "/" + name
	}
	for sub, dir := range s.subdirs() {
		if *dir == d {
			return layout.ControlDir + "/" + sub + "/" + name
		}
	}
	return name
}

// Quiet waits until no call changes the volume, and keeps it so until release. busy
// names the process if that takes too long. It makes no lock file: where there is
// none, no call is at work.
func (s *SR) Quiet(key Key) (release func(), busy string, err error) {
	var held []*dirfs.Lock
	release = func() {
		for _, lock := range held {
			lock.Unlock()
		}
	}
	for _, place := range []struct {
		dir  *dirfs.Dir
		name string
	}{{s.Locks, string(key)}, {s.control, "lock"}, {s.control, "leases.lock"}} {
		if place.dir == nil || place.name == "lock" && s.lock != nil {
			continue
		}
		lock, busy, err := place.dir.LookLockFor(place.name, dirfs.Patience)
		if err != nil || busy != "" {
			release()
			return func() {}, busy, err
		}
		held = append(held, lock)
	}
	return release, "", nil
}

// QuietCBT is Quiet for what is kept of volumes whose data was destroyed.
func (s *SR) QuietCBT() (release func(), busy string, err error) {
	if s.control == nil {
		return func() {}, "", nil
	}
	lock, busy, err := s.control.LookLockFor("cbt.lock", dirfs.Patience)
	return func() { lock.Unlock() }, busy, err
}

// Working says whether a call has the volume's lock alone at this moment.
func (s *SR) Working(key Key) (bool, error) {
	lock, busy, err := s.Locks.LookLockFor(string(key), 0)
	lock.Unlock()
	return busy != "", err
}

// During is the problem as it is to be seen while the process busy, if any, is
// changing what it is about: a note.
func (p Problem) During(busy string) Problem {
	if busy == "" {
		return p
	}
	p.Note, p.Repairable = true, false
	p.Text += "; a call goes on now: " + busy
	p.Repair = Nothing("that call will; look again when it has ended")
	return p
}
