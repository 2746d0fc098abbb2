package check

import (
	"slices"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
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
