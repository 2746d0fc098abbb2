package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// node is a volume in the tree of those that come from one.
type node struct {
	key      sr.Key
	kind     volume.Kind // how it was made from its parent; "" if it was not
	created  time.Time
	volume   *volume.Volume // nil: it is no more
	children []*node
	printed  bool
}

func tree(args []string, out io.Writer) error {
	args, err := parse("tree", args, 1, 1, noFlags)
	if err != nil {
		return err
	}
	s, err := openSR(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	nodes, failed := nodesOf(s)
	if err := printTrees(out, nodes, time.Now()); err != nil {
		return err
	}
	return failed
}

// nodesOf reads all volumes and links them. A volume that is no more is there if others
// come from it; one that cannot be read is left out, and is the error.
func nodesOf(s *sr.SR) ([]*node, error) {
	keys, err := volume.Keys(s)
	if err != nil {
		return nil, err
	}
	nodes, parents := map[sr.Key]*node{}, map[sr.Key]sr.Key{}
	var failed error
	for _, key := range keys {
		v, err := volume.Describe(s, key)
		var r *volume.Record
		if err == nil {
			r, err = volume.Load(s, key)
		}
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		nodes[key] = &node{key: key, created: r.Created, volume: &v}
		if r.Origin != nil {
			nodes[key].kind, parents[key] = r.Origin.Kind, r.Origin.Of
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
	return all, failed
}

func older(a, b *node) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key, b.key))
}

// printTrees begins with those that come from nothing. What is left after that comes
// from itself, says a damaged record; it is printed all the same.
func printTrees(out io.Writer, nodes []*node, now time.Time) error {
	for _, n := range nodes {
		if n.kind == "" {
			if err := n.print(out, "", "", now); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		if !n.printed {
			if err := n.print(out, "", "", now); err != nil {
				return err
			}
		}
	}
	return nil
}

// print prints a volume after lead, and what comes from it below that, after indent.
func (n *node) print(out io.Writer, lead, indent string, now time.Time) error {
	if n.printed {
		return nil
	}
	n.printed = true
	if _, err := fmt.Fprintln(out, lead+n.text(now)); err != nil {
		return err
	}
	for i, c := range n.children {
		branch, below := "├─ ", "│  "
		if i == len(n.children)-1 {
			branch, below = "└─ ", "   "
		}
		if err := c.print(out, indent+branch, indent+below, now); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) text(now time.Time) string {
	if n.volume == nil {
		return oneLine(string(n.key)) + "  is no more"
	}
	what := "volume"
	if n.kind != "" {
		what = oneLine(string(n.kind))
	}
	occupied := "allocated"
	if n.volume.VolumeType == volume.CBTMetadata {
		what, occupied = what+" without data", "kept for comparisons"
	}
	return fmt.Sprintf("%s  %s, %s, %s %s, %s  %s", n.key, what, volume.Bytes(n.volume.VirtualSize), volume.Bytes(n.volume.PhysicalUtilisation), occupied, age(n.created, now), oneLine(n.volume.Name))
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
