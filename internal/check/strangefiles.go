package check

import (
	"slices"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/internal/uuids"
	"reflinksr/sr"
)

// strangeFiles: what the SR's directories hold, and what is in the control directory and none of ours. Nobody removes
// that. It notes all other names for those who look at volumes.
func strangeFiles(s *sr.SR, v *survey) error {
	v.staged = map[sr.Key][]string{}
	for _, part := range []struct {
		dir *dirfs.Dir
		see func(name string) (ours bool)
	}{
		{s.Staging, func(name string) bool {
			key, kind, ok := sr.StagedName(name)
			if ok {
				v.staged[key] = append(v.staged[key], kind)
			}
			return ok || name == layout.MarkerFile+".new"
		}},
		{s.Root, func(name string) bool { v.root = append(v.root, name); return true }},
		{s.Leases, func(name string) bool { v.leases = append(v.leases, name); return uuids.IsCanonical(name) }},
		{s.CBT, func(name string) bool {
			v.cbt = append(v.cbt, name)
			return uuids.IsCanonical(strings.TrimSuffix(name, sr.PendingCBT))
		}},
		{s.Locks, func(name string) bool { v.locks = append(v.locks, name); return uuids.IsCanonical(name) }},
		{s.Control, func(name string) bool {
			return s.Subdirs()[name] != nil || name == layout.HostsDir || name == "lock" || slices.Contains(layout.ShortLocks, name) || name == layout.DestroyManifest || name == layout.SequenceFile
		}},
	} {
		if part.dir == nil {
			continue
		}
		names, err := part.dir.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			if dirfs.RemovedOpen(name) && part.dir.Remote() {
				v.add(Problem{Kind: UnknownFile, Name: s.Relative(part.dir, name), Note: true,
					Text: "a file that was removed while a host had it open; NFS keeps it until that host closes it", Repair: Nothing("it goes by itself, or has been left by a host that crashed: then remove it")})
				continue
			}
			if !part.see(name) {
				v.add(Problem{Kind: UnknownFile, Name: s.Relative(part.dir, name), Note: true,
					Text: "not a file of ours", Repair: Nothing("it is somebody's; move it away if nobody misses it")})
			}
		}
	}
	return nil
}
