package repository

import (
	"context"

	"reflinksr/internal/source"
	"reflinksr/sr"
)

// Candidate is what an SR could be made of, or an SR that is there.
type Candidate = sr.Candidate

// Probe says, step by step, what an SR could be made of on this host, and which are there. It
// changes nothing.
func Probe(_ context.Context, configuration map[string]string) ([]Candidate, error) {
	return sr.ProbeSR(configuration)
}

// Configuration describes the members of an SR's configuration.
func Configuration() map[string]string { return source.OptionHelp }
