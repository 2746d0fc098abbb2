package check

import (
	"reflinksr/internal/layout"
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

// add adds problems of the SR.
func (v *Survey) add(p ...Problem) { v.Problems = append(v.Problems, p...) }

// SurveyOf looks over the SR's directories. It writes nothing.
func SurveyOf(s *sr.SR) (v Survey, err error) {
	problems, err := marker(s)
	if err != nil {
		return v, err
	}
	v.add(problems...)
	v.Sound = len(problems) == 0
	if v.Destroyed = !v.Sound && problems[0].Name == layout.TombstoneFile; v.Destroyed {
		return v, nil
	}
	for _, rule := range ofSR {
		if err := rule(s, &v); err != nil {
			return v, err
		}
	}
	return v, nil
}
