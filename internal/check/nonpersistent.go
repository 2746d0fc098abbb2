package check

import (
	"strings"

	"reflinksr/datapath/lease"
	"reflinksr/sr"
)

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
			p.Text, p.Repair = "a throw-away disk of host "+strings.TrimPrefix(host, "."), Nothing("it is that host's, which removes it when its datapath is closed, or the SR attached")
		case !note.Nonpersistent:
			p.Text = "a throw-away disk of this host that nobody has: of a former boot, or of a datapath whose opening or closing was interrupted"
		case note.Used && len(note.Domains) == 0:
			p.Note = true
			p.Text = "a throw-away disk of this host that has served its guest: its datapath has not been closed yet"
		default:
			continue
		}
		problems = append(problems, p)
	}
	return problems, nil
}
