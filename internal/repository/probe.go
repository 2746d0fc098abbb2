package repository

import (
	"context"

	"reflinksr/internal/probe"
	"reflinksr/internal/source"
)

// Candidate is what an SR could be made of, or an SR that is there.
type Candidate = probe.Candidate

// Probe says, step by step, what an SR could be made of on this host, and which are there. It
// changes nothing.
func Probe(_ context.Context, configuration map[string]string) ([]Candidate, error) {
	return probe.SR(configuration)
}

// Configuration describes the members of an SR's configuration.
func Configuration() map[string]string { return source.OptionHelp }
