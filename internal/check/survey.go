package check

import (
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// survey is what an SR consists of, volume by volume or not, and what is wrong with
// the SR as such.
type survey struct {
	root, leases, locks, cbt []string            // names
	staged                   map[sr.Key][]string // what staging holds of each volume: see unfinished.go
	problems                 []Problem           // of the SR, not of one volume
	attached                 bool                // on this host, at this place
	elsewhere                bool                // attached on this host, but this is a copy of that
	sound                    bool                // the marker and the place are as they should be
	destroyed                bool                // there is no SR any more, only files of one
}

// add adds problems of the SR.
func (v *survey) add(p ...Problem) { v.problems = append(v.problems, p...) }

// surveyOf looks over the SR's directories. It writes nothing.
func surveyOf(s *sr.SR) (v survey, err error) {
	problems, err := marker(s)
	if err != nil {
		return v, err
	}
	v.add(problems...)
	v.sound = len(problems) == 0
	if v.destroyed = !v.sound && problems[0].Name == layout.TombstoneFile; v.destroyed {
		return v, nil
	}
	for _, rule := range ofSR {
		if err := rule(s, &v); err != nil {
			return v, err
		}
	}
	return v, nil
}
