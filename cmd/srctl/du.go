package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"

	"github.com/spf13/cobra"
)

func (s *session) du() *cobra.Command {
	return s.answersJSON(command("du [SR]", "tell what volumes occupy, share, and give back when destroyed",
		`du measures every volume of an SR, or of all that are attached: what is allocated,
what it shares with others and what it has alone, and what destroying it gives
back at least.`,
		`  srctl du /srv/tank
  srctl du --json | jq '.[].volumes[] | select(.gives_back > 1e9)'`, 0, 1, s.measure))
}

func (s *session) measure(ctx context.Context, args []string) (err error) {
	out := s.out
	var srs []repository.SR
	if len(args) == 0 {
		srs, err = repository.Attached(ctx)
	} else {
		srs = make([]repository.SR, 1)
		srs[0], err = s.at(ctx, args[0])
	}
	if err != nil {
		return err
	}
	all, failed := []repository.Usage{}, error(nil)
	for _, sr := range srs {
		u, err := sr.Usage(ctx)
		failed = errors.Join(failed, err)
		if u != nil {
			all = append(all, *u)
		}
	}
	if s.json {
		return errors.Join(failed, printJSON(out, all))
	}
	for i, u := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if err := printUsage(out, u); err != nil {
			return err
		}
	}
	return failed
}

func printUsage(out io.Writer, u repository.Usage) error {
	fmt.Fprintln(out, oneLine(u.Path))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tMODE\tSIZE\tALLOCATED\tSHARED\tEXCLUSIVE\tGIVES BACK\tNAME")
	more, pinned := false, false
	for _, v := range u.Volumes {
		mode, name, back := modeOf(v.ReadWrite, v.VolumeType), oneLine(v.Name), units.Bytes(v.GivesBack)
		if v.VolumeType == repository.CBTMetadata {
			name += fmt.Sprintf(" (data destroyed: %s freed, noted in %s)", units.Bytes(v.FreedBytes), units.Bytes(v.NoteBytes))
		}
		if v.PinnedBytes > 0 {
			name += fmt.Sprintf(" (%s pinned)", units.Bytes(v.PinnedBytes))
			pinned = true
		}
		if v.GivesBackMore {
			back, more = back+" +", true
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Key, mode, units.Bytes(v.VirtualSize), units.Bytes(v.Allocated), units.Bytes(v.SharedBytes), units.Bytes(v.ExclusiveBytes), back, name)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if more {
		fmt.Fprintln(out, "+: and what only snapshots without data share with it; they lose that then")
	}
	if pinned {
		fmt.Fprintln(out, "pinned: space of extents that the volume uses only a part of; destroying it gives that back as well; srctl compact -n tells what giving it back without that costs")
	}
	_, err := fmt.Fprintf(out, "%d volumes; %s are exclusive to one of them; %s of %s are free on the filesystem\n", len(u.Volumes), units.Bytes(u.Exclusive), units.Bytes(u.FreeSpace), units.Bytes(u.TotalSpace))
	return err
}
