package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/version"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// supported is what srctl support prints. What could not be found out is null or empty, and Errors says why.
type supported struct {
	Version string        `json:"version"`
	Taken   time.Time     `json:"taken"`
	SRs     []supportedSR `json:"srs"`
	Errors  []string      `json:"errors"`
}

type supportedSR struct {
	Path    string                  `json:"path"`
	Stat    *repository.SRStat      `json:"stat"`
	Volumes []repository.VolumeStat `json:"volumes"`
	Records []repository.Record     `json:"records"`
	Check   *repository.Report      `json:"check"`
	Errors  []string                `json:"errors"`
}

func (s *session) support() *cobra.Command {
	within := time.Minute
	c := command("support", "tell all but data of the attached SRs, for a support bundle",
		`support tells all that is known of the attached SRs, their records and what a check
finds, but nothing that is on a disk, as JSON. It is for people who cannot ask again:
what fails is told, and the rest as well.`,
		`  srctl support > support.json`, 0, 0,
		func(ctx context.Context, _ []string) error { return s.tellSupport(ctx, within) })
	c.Flags().DurationVar(&within, "within", within, "how long it may take")
	return c
}

func (s *session) tellSupport(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoTime)
	defer cancel()
	all := supported{Version: version.String(), Taken: time.Now().UTC(), SRs: []supportedSR{}}
	srs, err := repository.Attached(ctx)
	if err != nil {
		all.Errors = append(all.Errors, err.Error())
	}
	for _, sr := range srs {
		if _, err := sr.Stat(ctx); errors.Is(err, fault.ErrNotAttached) {
			continue // it was detached while this host's SRs were asked
		}
		all.SRs = append(all.SRs, supportOf(ctx, sr))
	}
	return printJSON(s.out, all)
}

// errNoTime ends what takes too long.
var errNoTime = errors.New("there was no more time: --within")

func supportOf(ctx context.Context, sr repository.SR) (s supportedSR) {
	note := func(what string, err error) {
		if err != nil {
			s.Errors = append(s.Errors, what+": "+err.Error())
		}
	}
	path, err := sr.Path()
	note("path", err)
	s.Path = path
	st, err := sr.Stat(ctx)
	note("stat", err)
	if err == nil {
		s.Stat = &st
	}
	s.Volumes, err = sr.List(ctx)
	note("list", err)
	s.Records, err = sr.Records(ctx)
	note("records", err)
	report, err := repository.Check(ctx, path, func(int64, int64) {})
	note("check", err)
	s.Check = &report
	return s
}
