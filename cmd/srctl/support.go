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
what fails is told, and the rest as well. It fails if an SR does not answer at all.`,
		`  srctl support > support.json`, 0, 0,
		func(ctx context.Context, _ []string) error { return s.tellSupport(ctx, within) })
	c.Flags().DurationVar(&within, "within", within, "how long it may take; an SR may take 10s to answer at all")
	return c
}

func (s *session) tellSupport(ctx context.Context, within time.Duration) error {
	all := supported{Version: version.String(), Taken: time.Now().UTC(), SRs: []supportedSR{}}
	srs, err := repository.Attached(ctx)
	if err != nil {
		all.Errors = append(all.Errors, err.Error())
	}
	var failed error
	for _, answer := range askHost[supportedSR](srs, "support", partOf(within), patienceOf(within)) {
		if answer.err != nil {
			failed = errors.Join(failed, answer.err)
			path, _ := answer.sr.Path()
			answer.value = supportedSR{Path: path, Errors: []string{answer.err.Error()}}
		}
		all.SRs = append(all.SRs, answer.value)
	}
	return errors.Join(failed, printJSON(s.out, all))
}

// errNoTime ends what takes too long.
var errNoTime = errors.New("there was no more time: --within")

// supportOf tells of one SR what can be told within some time.
func supportOf(ctx context.Context, sr repository.SR, within time.Duration) (s supportedSR, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errNoTime)
	defer cancel()
	note := func(what string, err error) {
		if err != nil {
			s.Errors = append(s.Errors, what+": "+err.Error())
		}
	}
	s.Path, err = sr.Path()
	note("path", err)
	st, err := sr.Stat(ctx)
	if errors.Is(err, fault.ErrNotAttached) {
		return s, err
	}
	note("stat", err)
	if err == nil {
		s.Stat = &st
	}
	s.Volumes, err = sr.List(ctx)
	note("list", err)
	s.Records, err = sr.Records(ctx)
	note("records", err)
	report, err := repository.Check(ctx, s.Path, func(int64, int64) {})
	note("check", err)
	s.Check = &report
	return s, nil
}
