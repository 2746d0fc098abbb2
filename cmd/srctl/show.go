package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

func (s *session) show() *cobra.Command {
	return s.answersJSON(command("show SR VOLUME", "show one volume: record, extents, what is shared, who has it",
		`show tells all that is known of a volume: its name and sizes, what it shares with
others and what destroying it gives back, its device and who has it active, where
it comes from, and about how long a snapshot of it takes.`,
		`  srctl show /srv/tank 0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9
  srctl show --json /srv/tank $KEY | jq .gives_back`, 2, 2, s.showVolume))
}

func (s *session) showVolume(ctx context.Context, args []string) error {
	out := s.out
	key, err := repository.ParseKey(args[1])
	if err != nil {
		return err
	}
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	d, err := repository.Volume{SR: sr, Key: key}.Details(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(out, d)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("key", d.Key)
	row("name", oneLine(d.Name))
	row("description", oneLine(d.Description))
	row("read-write", d.ReadWrite)
	switch {
	case d.DataDestroyed:
		row("data", "destroyed: a snapshot without data cannot be read, cloned, exported or reverted to; it only tells what others have changed since")
		row("size", units.Bytes(d.VirtualSize)+" (of the disk that it was)")
		row("freed", units.Bytes(d.FreedBytes)+pending(d.Pending))
		row("kept", units.Bytes(d.PhysicalUtilisation)+" (what others share with it, for comparisons)")
		row("gives back", units.Bytes(d.GivesBack)+" when it is destroyed, with its note of "+units.Bytes(d.NoteBytes))
	case d.Extents < 0:
		row("size", units.Bytes(d.VirtualSize))
		row("allocated", units.Bytes(d.PhysicalUtilisation))
		row("extents", "unknown here: the NFS server's filesystem knows")
	default:
		row("size", units.Bytes(d.VirtualSize))
		row("allocated", units.Bytes(d.PhysicalUtilisation))
		row("shared", units.Bytes(d.SharedBytes))
		row("exclusive", units.Bytes(d.ExclusiveBytes))
		if d.PinnedBytes > 0 {
			row("pinned", units.Bytes(d.PinnedBytes)+" (of extents that it uses in part; srctl compact -n tells what giving it back costs)")
		}
		row("gives back", units.Bytes(d.GivesBack)+" when it is destroyed")
		row("extents", d.Extents)
		if d.ReadWrite {
			row("snapshot", nextSnapshot(d.NextSnapshot))
		}
	}
	row("sector size", d.SectorSize)
	if d.Device != nil {
		row("device", fmt.Sprintf("%s, %s", d.Device.Path, map[bool]string{true: "direct I/O", false: "through this host's page cache"}[d.Device.DirectIO]))
	}
	row("created", d.Created.Format(time.RFC3339))
	if d.Origin != nil {
		row("origin", fmt.Sprintf("%s of %s at %s", oneLine(string(d.Origin.Kind)), oneLine(string(d.Origin.Of)), d.Origin.At.Format(time.RFC3339)))
	}
	for k, v := range d.Keys {
		row("key "+oneLine(k), oneLine(v))
	}
	for _, h := range d.Holders {
		row("active in", h)
	}
	return w.Flush()
}

func pending(some bool) string {
	if some {
		return " (some of it may not have been given back yet)"
	}
	return ""
}

func milliseconds(n *int64) time.Duration { return time.Duration(*n) * time.Millisecond }

// nextSnapshot tells what a snapshot of a disk in use comes to.
func nextSnapshot(n repository.NextSnapshot) string {
	switch {
	case n.Takes == nil:
		return "unknown"
	case n.Why != "":
		return fmt.Sprintf("takes about %s, and a write of a guest waits for as long, because %s", milliseconds(n.Takes), oneLine(n.Why))
	case *n.Stall == *n.AtOnce:
		return fmt.Sprintf("takes about %s, and a write of a guest waits for as long", milliseconds(n.Takes))
	}
	return fmt.Sprintf("takes about %s while a guest of this host has the disk, and a write of that waits for some %s (%s if it were cloned at once)", milliseconds(n.Takes), milliseconds(n.Stall), milliseconds(n.AtOnce))
}
