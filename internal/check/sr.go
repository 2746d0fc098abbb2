package check

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
	"reflinksr/sr"
)

// Survey is what an SR consists of, volume by volume or not, and what is wrong with
// the SR as such.
type Survey struct {
	Root, Leases, Locks, CBT []string            // names
	Staged                   map[sr.Key][]string // what staging holds of each volume: see Unfinished
	Problems                 []Problem           // of the SR, not of one volume
	Attached                 bool                // on this host, at this place
	Elsewhere                bool                // attached on this host, but this is a copy of that
	Sound                    bool                // the marker and the place are as they should be
	Destroyed                bool                // there is no SR any more, only files of one
}

// SurveyOf looks over the SR's directories. It writes nothing.
func SurveyOf(s *sr.SR) (v Survey, err error) {
	add := func(p ...Problem) { v.Problems = append(v.Problems, p...) }
	problems, err := surveyMarker(s)
	if err != nil {
		return v, err
	}
	add(problems...)
	v.Sound = len(problems) == 0
	if v.Destroyed = !v.Sound && problems[0].Name == layout.TombstoneFile; v.Destroyed {
		return v, nil
	}
	if err := place(s, &v); err != nil {
		return v, err
	}
	if problems, err = surveyControl(s); err != nil {
		return v, err
	}
	add(problems...)
	add(exposed(s, s.Root, layout.MarkerFile, layout.MarkerFile, "")...)
	v.Staged = map[sr.Key][]string{}
	for _, part := range []struct {
		dir *dirfs.Dir
		see func(name string) (ours bool)
	}{
		{s.Staging, func(name string) bool {
			key, kind, ok := sr.StagedName(name)
			if ok {
				v.Staged[key] = append(v.Staged[key], kind)
			}
			return ok || name == layout.MarkerFile+".new"
		}},
		{s.Root, func(name string) bool { v.Root = append(v.Root, name); return true }},
		{s.Leases, func(name string) bool { v.Leases = append(v.Leases, name); return uuids.IsCanonical(name) }},
		{s.CBT, func(name string) bool {
			v.CBT = append(v.CBT, name)
			return uuids.IsCanonical(strings.TrimSuffix(name, sr.PendingCBT))
		}},
		{s.Locks, func(name string) bool { v.Locks = append(v.Locks, name); return uuids.IsCanonical(name) }},
		{s.Control, func(name string) bool {
			return s.Subdirs()[name] != nil || name == layout.HostsDir || name == "lock" || slices.Contains(layout.ShortLocks, name) || name == layout.DestroyManifest || name == layout.SequenceFile
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
				add(Problem{Kind: UnknownFile, Name: s.Relative(part.dir, name), Note: true,
					Text: "a file that was removed while a host had it open; NFS keeps it until that host closes it", Repair: Nothing("it goes by itself, or has been left by a host that crashed: then remove it")})
				continue
			}
			if !part.see(name) {
				add(Problem{Kind: UnknownFile, Name: s.Relative(part.dir, name), Note: true,
					Text: "not a file of ours", Repair: Nothing("it is somebody's; move it away if nobody misses it")})
			}
		}
	}
	return v, nil
}

// surveyMarker judges the marker and whether the SR is where it was made.
func surveyMarker(s *sr.SR) ([]Problem, error) {
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
	err = (&sr.SR{Path: s.Path, Root: s.Root}).SameFilesystem(m)
	if errors.Is(err, fault.ErrUnavailable) {
		return one(WrongPlace, layout.MarkerFile, err.Error(), Nothing("mount the right filesystem, or srctl rehome; nothing else in this SR is repaired before"))
	}
	return nil, err
}

// place finds out whether the SR is attached on this host, and whether here.
func place(s *sr.SR, v *Survey) error {
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
		v.Sound = false
		v.Problems = append(v.Problems, Problem{Kind: WrongPlace, Name: layout.MarkerFile,
			Text:   fmt.Sprintf("SR %s is attached on this host at %s: this is a copy of it", s.Meta.UUID, a.Path),
			Repair: Nothing("remove one of the two; nothing else in this SR is repaired while the other is attached")})
	}
	return nil
}
