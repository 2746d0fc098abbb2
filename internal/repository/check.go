package repository

import (
	"context"

	"reflinksr/internal/check"
	"reflinksr/sr"
)

// Problem is something about an SR that is not as it should be, or that is worth knowing.
type Problem = check.Problem

// ProblemKind says what sort of problem it is.
type ProblemKind = check.ProblemKind

// Report is what a check of an SR found. docs/check.md describes it.
type Report struct {
	Path     string    `json:"path"`
	UUID     string    `json:"uuid"`
	Attached bool      `json:"attached"`
	Volumes  int       `json:"volumes"` // how many there are
	Problems []Problem `json:"problems"`
	Notes    []Problem `json:"notes"`    // nothing is wrong with these
	Repaired []Problem `json:"repaired"` // what Repair has put right
}

// Check looks over the SR in a directory, attached or not, and writes nothing.
// fault.ErrSRNotFound if there is none. On an error the report has what was found until then.
// When ctx ends it is the cause. moved is told how many volumes of how many were looked at, by several at once.
func Check(ctx context.Context, path string, moved func(done, total int64)) (Report, error) {
	c := Report{Path: path}
	s, err := sr.Inspect(path)
	if err != nil {
		return c, err
	}
	defer s.Close()
	c.UUID = s.Meta.UUID
	r, err := check.ExamineVolumes(ctx, s, moved)
	if err == nil && !r.Gone {
		var more []Problem
		more, err = check.ExamineDestroyed(s, r.DataDestroyed)
		r.Join(more)
	}
	c.Attached, c.Volumes, c.Problems, c.Notes = r.Attached, r.Volumes, r.Problems, r.Notes
	return c, err
}
