package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

func (s *session) du() *cobra.Command {
	return s.takes(s.narrowed(s.answersJSON(command("du [SR]", "tell what volumes occupy, share, and give back when destroyed",
		`du measures every volume of an SR, or of all that are attached: what is allocated,
what it shares with others and what it has alone, and what destroying it gives
back at least.`,
		`  srctl du /srv/tank
  srctl du --json | jq '.[].volumes[] | select(.gives_back > 1e9)'`, 0, 1, s.measure)), usageColumns), anSR)
}

func (s *session) measure(ctx context.Context, args []string) error {
	srs, err := s.someOrAll(ctx, args)
	if err != nil {
		return err
	}
	all, failed := []repository.Usage{}, error(nil)
	if len(args) == 0 {
		srs, failed = answering(srs)
	}
	for _, sr := range srs {
		moved, stop := busyCounting("measuring")
		u, err := sr.Usage(ctx, moved)
		stop()
		if errors.Is(err, fault.ErrNotAttached) && len(args) == 0 {
			continue // it was detached while this host's SRs were measured
		}
		failed = errors.Join(failed, err)
		if u != nil {
			all = append(all, *u)
		}
	}
	for i, u := range all {
		t := s.tableOf(u)
		if err := t.choose(s.sort, s.filters); err != nil {
			return err
		}
		if all[i].Volumes = values[repository.Space](t); s.json {
			continue
		}
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		if err := s.printUsage(u, t); err != nil {
			return err
		}
	}
	if s.json {
		return errors.Join(failed, printJSON(s.out, all))
	}
	return failed
}

var usageColumns = []column{{title: "KEY", cut: keysEnd}, {title: "MODE"}, {title: "SIZE", numbers: true}, {title: "ALLOCATED", numbers: true}, {title: "SHARED", numbers: true},
	{title: "EXCLUSIVE", numbers: true}, {title: "GIVES BACK", numbers: true}, {title: "NAME", cut: textsEnd}}

func (s *session) tableOf(u repository.Usage) *table {
	t := &table{columns: usageColumns}
	for _, v := range u.Volumes {
		name, back := text(v.Name), s.size(v.GivesBack)
		if v.VolumeType == repository.CBTMetadata {
			name.shown += fmt.Sprintf(" (data destroyed: %s freed, noted in %s)", s.bytes(v.FreedBytes), s.bytes(v.NoteBytes))
		}
		if v.PinnedBytes > 0 {
			name.shown += fmt.Sprintf(" (%s pinned)", s.bytes(v.PinnedBytes))
		}
		if v.GivesBackMore {
			back.shown += " +"
		}
		t.rows = append(t.rows, row{value: v, cells: []cell{text(string(v.Key)), text(modeOf(v.ReadWrite, v.VolumeType)), s.size(v.VirtualSize), s.size(v.Allocated), s.size(v.SharedBytes), s.size(v.ExclusiveBytes), back, name}})
	}
	return t
}

func (s *session) printUsage(u repository.Usage, t *table) error {
	width := terminalWidth(s.out)
	path := oneLine(u.Path)
	if width > 0 {
		path = cut(path, width)
	}
	fmt.Fprintln(s.out, path)
	if err := t.print(s.out, width); err != nil {
		return err
	}
	if slices.ContainsFunc(u.Volumes, func(v repository.Space) bool { return v.GivesBackMore }) {
		if err := indented(s.out, "+: and what only snapshots without data share with it; they lose that then", 0, width); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(u.Volumes, func(v repository.Space) bool { return v.PinnedBytes > 0 }) {
		if err := indented(s.out, "pinned: space of extents that the volume uses only a part of; destroying it gives that back as well; srctl compact --dry-run tells what giving it back without that costs", 0, width); err != nil {
			return err
		}
	}
	return indented(s.out, fmt.Sprintf("%d volumes; %s are exclusive to one of them; %s of %s are free on the filesystem", len(u.Volumes), s.bytes(u.Exclusive), s.bytes(u.FreeSpace), s.bytes(u.TotalSpace)), 0, width)
}
