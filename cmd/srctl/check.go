package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"

	"reflinksr/internal/repository"
)

// errUnchecked says that there was nothing to check, or that it could not be read.
var errUnchecked = errors.New("could not be checked")

// checked is what check -json prints. Its shape is described in docs/check.md.
type checked struct {
	repository.Report
	Error string `json:"error"`
}

func checkSR(ctx context.Context, args []string, out io.Writer) error {
	var asJSON, repair bool
	args, err := parse("check", args, 1, 1, func(f *flag.FlagSet) {
		f.BoolVar(&asJSON, "json", false, "")
		f.BoolVar(&repair, "repair", false, "")
	})
	if err != nil {
		return err
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	report, err := repository.Check(ctx, path)
	var failed error
	if err == nil && repair {
		report, failed, err = repository.Repair(ctx, report)
	}
	c := checked{Report: report}
	if err != nil {
		c.Error = err.Error()
		err = fmt.Errorf("%w: %w", errUnchecked, err)
	}
	if asJSON {
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
	line := func(what string, p repository.Problem) {
		fmt.Fprintf(out, "%s: %s: %s; -repair: %s\n", what, oneLine(p.Name), printable(p.Text), printable(p.Repair))
	}
	for _, p := range c.Repaired {
		fmt.Fprintf(out, "repaired: %s: %s\n", oneLine(p.Name), printable(p.Text))
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
			fmt.Fprintf(out, "note: and %d more of the kind %q: -json lists them all\n", n-notesOfAKind, kind)
		}
	}
	if len(c.Problems) > 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %d volumes, all as it should be\n", oneLine(c.Path), c.Volumes)
	return err
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
