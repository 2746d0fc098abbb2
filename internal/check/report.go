package check

import (
	"context"
	"slices"
	"strings"

	"reflinksr/sr"
)

// Report is what a look over an SR found.
type Report struct {
	Attached bool      // on this host
	Gone     bool      // the SR was destroyed, and is not erased yet
	Volumes  int       // how many there are
	Problems []Problem // what is not as it should be
	Notes    []Problem // what is, but worth knowing

	DataDestroyed []sr.Key // volumes of which ExamineDestroyed knows more
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

// Volumes is the problems of ExamineVolumes.
func Volumes(s *sr.SR) ([]Problem, error) {
	r, err := ExamineVolumes(context.Background(), s, func(int64, int64) {})
	return r.Problems, err
}
