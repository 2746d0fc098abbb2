package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

// errUnchecked says that there was nothing to check, or that it could not be read.
var errUnchecked = errors.New("could not be checked")

// checked is what check --json prints. Its shape is described in docs/check.md.
type checked struct {
	repository.Report
	Error string `json:"error"`
}

func (s *session) check() *cobra.Command {
	var repair bool
	c := s.takes(s.answersJSON(command("check SR", "look for what is not as it should be, and repair it",
		`check reads a whole SR, attached on this host or not, and tells what is not as it
should be, what is worth knowing, and what --repair would do about it. Without
--repair nothing is written.

The exit status is 0 if all is well, 1 if problems were found or remain, 2 for
arguments that make no sense, and 3 if it could not be checked.`,
		`  srctl check /srv/tank
  srctl check --repair /srv/tank
  srctl check --json /srv/tank | jq '.problems | length'`, 1, 1, func(ctx context.Context, args []string) error { return s.checkSR(ctx, args, repair) })), anSR)
	c.Flags().BoolVar(&repair, "repair", false, "finish what a crash interrupted, and correct what is ours")
	return c
}

func (s *session) checkSR(ctx context.Context, args []string, repair bool) error {
	out := s.out
	path, err := s.directoryOf(ctx, args[0])
	if err != nil {
		return err
	}
	moved, stop := busyCounting("checking")
	report, err := repository.Check(ctx, path, moved)
	var failed error
	if err == nil && repair {
		report, failed, err = repository.Repair(ctx, report)
	}
	stop()
	c := checked{Report: report}
	if err != nil {
		c.Error = err.Error()
		err = fmt.Errorf("%w: %w", errUnchecked, err)
	}
	if s.json {
		for _, list := range []*[]repository.Problem{&c.Problems, &c.Notes, &c.Repaired} {
			if *list == nil {
				*list = []repository.Problem{}
			}
		}
		err = errors.Join(err, printJSON(out, c))
	} else if err == nil {
		err = c.print(out)
	}
	err = errors.Join(err, failed)
	if len(c.Problems) > 0 {
		err = errors.Join(err, errProblems)
	}
	return err
}

func (c checked) print(out io.Writer) error {
	width := terminalWidth(out)
	line := func(what string, p repository.Problem) {
		indented(out, fmt.Sprintf("%s: %s: %s; --repair: %s", what, oneLine(p.Name), printable(p.Text), printable(p.Repair)), 0, width)
	}
	for _, p := range c.Repaired {
		indented(out, fmt.Sprintf("repaired: %s: %s", oneLine(p.Name), printable(p.Text)), 0, width)
	}
	for _, p := range c.Problems {
		line("problem", p)
	}
	printed := map[repository.ProblemKind]int{}
	for _, p := range c.Notes {
		if printed[p.Kind]++; printed[p.Kind] <= notesOfAKind {
			line("note", p)
		}
	}
	for kind, n := range printed {
		if n > notesOfAKind {
			fmt.Fprintf(out, "note: and %d more of the kind %q: --json lists them all\n", n-notesOfAKind, kind)
		}
	}
	if len(c.Problems) > 0 {
		return nil
	}
	return indented(out, fmt.Sprintf("%s: %d volumes, all as it should be", oneLine(c.Path), c.Volumes), 0, width)
}

// printable makes a sentence with foreign names in it safe for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// notesOfAKind bounds what is printed: thousands of clones may have lost their origin.
const notesOfAKind = 10
