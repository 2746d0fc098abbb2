package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/internal/repository"
)

func (s *session) show() *cobra.Command {
	return s.takes(s.answersJSON(command("show SR VOLUME", "show one volume: record, extents, what is shared, who has it",
		`show tells all that is known of a volume: its name and sizes, what it shares with
others and what destroying it gives back, its device and who has it active, where
it comes from, and about how long a snapshot of it takes.`,
		`  srctl show tank web
  srctl show tank 0a1b2c3d
  srctl show --json /srv/tank $KEY | jq .gives_back`, 2, 2, s.showVolume)), anSR, aVolume)
}

func (s *session) showVolume(ctx context.Context, args []string) error {
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	stop := busy("looking at extents")
	d, err := v.Details(ctx)
	stop()
	if err != nil {
		return err
	}
	path := s.disk(d.VolumeStat).Path
	if s.json {
		return printJSON(s.out, struct {
			repository.Details
			Path string `json:"path"`
		}{d, path})
	}
	p := new(properties)
	row := p.add
	row("key", d.Key)
	row("path", oneLine(path))
	row("name", oneLine(d.Name))
	row("description", oneLine(d.Description))
	row("read-write", d.ReadWrite)
	switch {
	case d.DataDestroyed:
		row("data", "destroyed: a snapshot without data cannot be read, cloned, exported or reverted to; it only tells what others have changed since")
		row("size", s.bytes(d.VirtualSize)+" (of the disk that it was)")
		row("freed", s.bytes(d.FreedBytes)+pending(d.Pending))
		row("kept", s.bytes(d.PhysicalUtilisation)+" (what others share with it, for comparisons)")
		row("gives back", s.bytes(d.GivesBack)+" when it is destroyed, with its note of "+s.bytes(d.NoteBytes))
	case d.Extents < 0:
		row("size", s.bytes(d.VirtualSize))
		row("allocated", s.bytes(d.PhysicalUtilisation))
		row("extents", "unknown here: the NFS server's filesystem knows")
	default:
		row("size", s.bytes(d.VirtualSize))
		row("allocated", s.bytes(d.PhysicalUtilisation))
		row("shared", s.bytes(d.SharedBytes))
		row("exclusive", s.bytes(d.ExclusiveBytes))
		if d.PinnedBytes > 0 {
			row("pinned", s.bytes(d.PinnedBytes)+" (of extents that it uses in part; srctl compact --dry-run tells what giving it back costs)")
		}
		row("gives back", s.bytes(d.GivesBack)+" when it is destroyed")
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
	if d.Mirror != nil {
		row("mirrored", mirrored(*d.Mirror, s.bytes)+", to "+oneLine(d.Mirror.Remote))
	}
	return p.print(s.out, terminalWidth(s.out))
}

// mirrored tells how far a mirror is.
func mirrored(m repository.Mirror, bytes func(int64) string) string {
	switch {
	case m.Failed != "":
		return "no more: " + oneLine(m.Failed)
	case m.Ended:
		return fmt.Sprintf("to its end, %s in %d rounds", bytes(m.Copied), m.Rounds)
	case m.Complete:
		return fmt.Sprintf("but for what was written lately, %s in %d rounds", bytes(m.Copied), m.Rounds)
	}
	return fmt.Sprintf("%.0f %%, %s of %s", 100*m.Progress, bytes(m.Copied), bytes(m.Total))
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
