package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

// relative is a volume and where it comes from, for programs.
type relative struct {
	aDisk
	Created *time.Time         `json:"created"` // null: unknown
	Origin  *repository.Origin `json:"origin"`  // null: of nothing
}

func (s *session) relatives(members []repository.Member) []relative {
	all := []relative{}
	for _, m := range members {
		r := relative{aDisk: s.disk(m.VolumeStat), Origin: m.Origin}
		if !m.Created.IsZero() {
			r.Created = &m.Created
		}
		all = append(all, r)
	}
	return all
}

// node is a volume in the tree of those that come from one.
type node struct {
	key      repository.Key
	kind     repository.Kind // how it was made from its parent; "" if it was not
	created  time.Time
	volume   *repository.VolumeStat // nil: it is no more
	children []*node
	printed  bool
}

func (s *session) tree() *cobra.Command {
	return s.takes(s.answersJSON(command("tree SR", "show which volume comes from which, with sizes and ages",
		`tree shows the volumes of an SR below those that they were made of, the oldest first.
One that is no more is shown where others come from it.`,
		`  srctl tree /srv/tank`, 1, 1, s.showTree)), anSR)
}

func (s *session) showTree(ctx context.Context, args []string) error {
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	members, failed := sr.Family(ctx)
	if s.json {
		return errors.Join(failed, printJSON(s.out, s.relatives(members)))
	}
	if err := s.printTrees(nodesOf(members), time.Now()); err != nil {
		return err
	}
	return failed
}

// nodesOf links volumes. One that is no more is there if others come from it.
func nodesOf(members []repository.Member) []*node {
	nodes, parents := map[repository.Key]*node{}, map[repository.Key]repository.Key{}
	for _, m := range members {
		nodes[m.Key] = &node{key: m.Key, created: m.Created, volume: &m.VolumeStat}
		if m.Origin != nil {
			nodes[m.Key].kind, parents[m.Key] = m.Origin.Kind, m.Origin.Of
		}
	}
	for key, parent := range parents {
		if nodes[parent] == nil {
			nodes[parent] = &node{key: parent}
		}
		nodes[parent].children = append(nodes[parent].children, nodes[key])
	}
	all := make([]*node, 0, len(nodes))
	for _, n := range nodes {
		slices.SortFunc(n.children, older)
		all = append(all, n)
	}
	slices.SortFunc(all, older)
	return all
}

func older(a, b *node) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key, b.key))
}

// printTrees begins with those that come from nothing. What is left after that comes
// from itself, says a damaged record; it is printed all the same.
func (s *session) printTrees(nodes []*node, now time.Time) error {
	if s.shortest = 36; terminalWidth(s.out) > 0 {
		var keys []string
		for _, n := range nodes {
			keys = append(keys, string(n.key))
		}
		s.shortest = beginning(keys)
	}
	for _, n := range nodes {
		if n.kind == "" {
			if err := s.printNode(n, "", "", now); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		if !n.printed {
			if err := s.printNode(n, "", "", now); err != nil {
				return err
			}
		}
	}
	return nil
}

// printNode prints a volume after lead, and what comes from it below that, after indent.
func (s *session) printNode(n *node, lead, indent string, now time.Time) error {
	if n.printed {
		return nil
	}
	n.printed = true
	line := lead + s.textOf(n, now)
	if width := terminalWidth(s.out); width > 0 {
		line = cut(line, width)
	}
	if _, err := fmt.Fprintln(s.out, line); err != nil {
		return err
	}
	for i, c := range n.children {
		branch, below := "├─ ", "│  "
		if i == len(n.children)-1 {
			branch, below = "└─ ", "   "
		}
		if err := s.printNode(c, indent+branch, indent+below, now); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) textOf(n *node, now time.Time) string {
	key := oneLine(string(n.key)[:min(s.shortest, len(n.key))])
	if n.volume == nil {
		return key + "  is no more"
	}
	what := "volume"
	if n.kind != "" {
		what = oneLine(string(n.kind))
	}
	occupied := "allocated"
	if n.volume.VolumeType == repository.CBTMetadata {
		what, occupied = what+" without data", "kept for comparisons"
	}
	return fmt.Sprintf("%s  %s, %s, %s %s, %s  %s", key, what, s.bytes(n.volume.VirtualSize), s.bytes(n.volume.PhysicalUtilisation), occupied, age(n.created, now), oneLine(n.volume.Name))
}

// age is how long ago something was made, in words short enough for a line.
func age(created, now time.Time) string {
	d := now.Sub(created)
	switch {
	case created.IsZero():
		return "age unknown"
	case d < time.Minute:
		return "just made"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min old", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours old", d/time.Hour)
	}
	return fmt.Sprintf("%d days old", d/(24*time.Hour))
}
