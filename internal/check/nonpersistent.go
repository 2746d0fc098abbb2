package check

import (
	"strings"

	"reflinksr/datapath/lease"
	"reflinksr/sr"
)

// nonpersistent: nonpersistent disks of a volume that nobody has. Those of a volume that is no
// more are unfinished.
func (e *examination) nonpersistent(key sr.Key, f *finding) error {
	for _, kind := range e.survey.staged[key] {
		host, ok := strings.CutSuffix(kind, sr.NonpersistentSuffix)
		if !ok || !f.there {
			continue
		}
		exists, err := e.s.Staging.Exists(string(key) + kind)
		if err != nil {
			return err
		}
		if !exists {
			continue
		}
		own := string(key)+kind == f.note.NonpersistentName(key, e.me)
		p, wrong := leftDisk(strings.TrimPrefix(host, "."), own, !e.s.Meta.Filesystem.Clustered(), f.note)
		if !wrong {
			continue
		}
		p.Name, p.Key = ".reflinksr/staging/"+string(key)+kind, key
		f.add(p)
	}
	return nil
}

// leftDisk judges a nonpersistent disk of a host. own: it is the one that this host's note speaks of; local: only this host
// can have the filesystem mounted.
func leftDisk(host string, own, local bool, note lease.Note) (p Problem, wrong bool) {
	p = Problem{Kind: LeftDisk, Repairable: true, Repair: "removes it"}
	switch {
	case !own && local:
		p.Text = "a nonpersistent disk of host " + host + ", or of this one when it had another identity: only one host at a time can have this filesystem mounted, and that is this one"
	case !own:
		p.Note, p.Repairable = true, false
		p.Text, p.Repair = "a nonpersistent disk of host "+host, nothing("it is that host's, which removes it when its datapath is closed, or the SR attached")
	case !note.Nonpersistent:
		p.Text = "a nonpersistent disk of this host that nobody has: of a former boot, or of a datapath whose opening or closing was interrupted"
	case note.Used && len(note.Domains) == 0:
		p.Note = true
		p.Text = "a nonpersistent disk of this host that has served its guest: its datapath has not been closed yet"
	default:
		return p, false
	}
	return p, true
}
