package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"reflinksr/datapath"
	"reflinksr/internal/check"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// errUnchecked says that there was nothing to check, or that it could not be read.
var errUnchecked = errors.New("could not be checked")

// checked is what check -json prints. Its shape is described in docs/check.md.
type checked struct {
	Path     string          `json:"path"`
	UUID     string          `json:"uuid"`
	Attached bool            `json:"attached"`
	Volumes  int             `json:"volumes"`
	Problems []check.Problem `json:"problems"`
	Notes    []check.Problem `json:"notes"`
	Repaired []check.Problem `json:"repaired"`
	Error    string          `json:"error"`
}

func checkSR(args []string, out io.Writer) error {
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
	c, err := examine(path)
	var failed error
	if err == nil && repair {
		c, failed, err = repaired(c)
	}
	if err != nil {
		c.Error = err.Error()
		err = fmt.Errorf("%w: %w", errUnchecked, err)
	}
	if asJSON {
		for _, list := range []*[]check.Problem{&c.Problems, &c.Notes, &c.Repaired} {
			if *list == nil {
				*list = []check.Problem{}
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

// examine looks at the SR in a directory and writes nothing.
func examine(path string) (checked, error) {
	c := checked{Path: path}
	s, err := sr.Inspect(path)
	if err != nil {
		return c, err
	}
	defer s.Close()
	c.UUID = s.Meta.UUID
	r, err := check.ExamineVolumes(s)
	if err == nil && !r.Gone {
		var more []check.Problem
		more, err = check.ExamineDestroyed(s, r.DataDestroyed)
		r.Join(more)
	}
	c.Attached, c.Volumes, c.Problems, c.Notes = r.Attached, r.Volumes, r.Problems, r.Notes
	return c, err
}

// repaired repairs what was found and looks again. failed is why something could not
// be repaired.
func repaired(before checked) (after checked, failed, err error) {
	needed := func(p check.Problem) bool { return p.Repairable }
	if !slices.ContainsFunc(before.Problems, needed) && !slices.ContainsFunc(before.Notes, needed) {
		return before, nil, nil
	}
	failed = repair(before.Path, before.UUID)
	after, err = examine(before.Path)
	if errors.Is(err, fault.ErrSRNotFound) {
		after.UUID, err = before.UUID, nil // it had been destroyed, and now it is erased
	}
	left := append(slices.Clone(after.Problems), after.Notes...)
	for _, p := range append(before.Problems, before.Notes...) {
		still := func(q check.Problem) bool { return q.Kind == p.Kind && q.Name == p.Name }
		if p.Repairable && !slices.ContainsFunc(left, still) {
			after.Repaired = append(after.Repaired, p)
		}
	}
	return after, failed, err
}

// repair repairs what is provably ours: as SR.attach does, and what that leaves.
func repair(path, uuid string) error {
	if err := sr.Repair(path); err != nil {
		return err
	}
	s, err := sr.OpenAt(path, uuid, dirfs.Shared)
	if errors.Is(err, fault.ErrNotAttached) {
		return nil // a destroyed SR, which is erased now
	}
	if err != nil {
		return err
	}
	err = check.Repair(s)
	s.Close() // datapath takes the locks in the order: note, SR
	return errors.Join(err, datapath.Repair(path, uuid), check.RepairDestroyed(path, uuid))
}

func (c checked) print(out io.Writer) error {
	line := func(what string, p check.Problem) {
		fmt.Fprintf(out, "%s: %s: %s; -repair: %s\n", what, oneLine(p.Name), printable(p.Text), printable(p.Repair))
	}
	for _, p := range c.Repaired {
		fmt.Fprintf(out, "repaired: %s: %s\n", oneLine(p.Name), printable(p.Text))
	}
	for _, p := range c.Problems {
		line("problem", p)
	}
	printed := map[check.ProblemKind]int{}
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
