package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

func ls(ctx context.Context, args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("ls", args, 0, 1, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return lsSRs(ctx, asJSON, out)
	}
	sr, err := at(ctx, args[0])
	if err != nil {
		return err
	}
	volumes, err := sr.List(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, volumes)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tMODE\tSIZE\tALLOCATED\tNAME")
	for _, v := range volumes {
		name := oneLine(v.Name)
		if v.VolumeType == repository.CBTMetadata {
			name += " (data destroyed)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Key, modeOf(v.ReadWrite, v.VolumeType), units.Bytes(v.VirtualSize), units.Bytes(v.PhysicalUtilisation), name)
	}
	return w.Flush()
}

// modeOf is what can be done with a volume's data: "cbt" is a snapshot that has none any
// more, and only tells of changed blocks.
func modeOf(readWrite bool, kind string) string {
	switch {
	case kind == repository.CBTMetadata:
		return "cbt"
	case readWrite:
		return "rw"
	}
	return "ro"
}

func lsSRs(ctx context.Context, asJSON bool, out io.Writer) error {
	srs, err := repository.Attached(ctx)
	if err != nil {
		return err
	}
	stats, failed := []repository.SRStat{}, error(nil)
	for _, sr := range srs {
		st, err := sr.Stat(ctx)
		if errors.Is(err, fault.ErrNotAttached) {
			continue // it was detached while this host's SRs were listed
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		stats = append(stats, st)
	}
	if asJSON {
		return errors.Join(failed, printJSON(out, stats))
	}
	if len(stats) == 0 && failed == nil {
		fmt.Fprintln(out, "no SR is attached on this host")
	}
	if len(stats) == 0 {
		return failed
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tHEALTH\tFREE\tTOTAL\tNAME")
	for _, st := range stats {
		path, err := repository.SR(st.SR).Path()
		if err != nil {
			return err
		}
		health := st.Health[0]
		if st.Health[1] != "" {
			health += ", but see below"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", oneLine(path), health, units.Bytes(st.FreeSpace), units.Bytes(st.TotalSpace), oneLine(st.Name))
		if st.Health[1] != "" {
			fmt.Fprintf(w, "\t%s\n", printable(st.Health[1]))
		}
	}
	return errors.Join(failed, w.Flush())
}

func show(ctx context.Context, args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("show", args, 2, 2, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	key, err := repository.ParseKey(args[1])
	if err != nil {
		return err
	}
	sr, err := at(ctx, args[0])
	if err != nil {
		return err
	}
	d, err := repository.Volume{SR: sr, Key: key}.Details(ctx)
	if err != nil {
		return err
	}
	if asJSON {
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

// one makes a subcommand of what takes a path and a key.
func one(do func(ctx context.Context, v repository.Volume, out io.Writer) error) func(context.Context, []string, io.Writer) error {
	return func(ctx context.Context, args []string, out io.Writer) error {
		args, err := parse("", args, 2, 2, noFlags)
		if err != nil {
			return err
		}
		v, err := volumeAt(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		return do(ctx, v, out)
	}
}

func snapshotCmd(ctx context.Context, v repository.Volume, out io.Writer) error {
	made, err := v.Snapshot(ctx)
	if err == nil {
		fmt.Fprintln(out, made.Key)
	}
	return err
}

func cloneCmd(ctx context.Context, v repository.Volume, out io.Writer) error {
	made, err := v.Clone(ctx)
	if err == nil {
		fmt.Fprintln(out, made.Key)
	}
	return err
}

func destroyCmd(ctx context.Context, v repository.Volume, _ io.Writer) error {
	if _, err := v.Stat(ctx); errors.Is(err, fault.ErrVolumeNotFound) {
		return err // to the toolstack that is success; a person has mistyped
	}
	return v.Destroy(ctx)
}

func revert(ctx context.Context, args []string, _ io.Writer) error {
	args, err := parse("revert", args, 3, 3, noFlags)
	if err != nil {
		return err
	}
	snapshot, v, err := volumesAt(ctx, args[0], args[1], args[2])
	if err != nil {
		return err
	}
	return v.Revert(ctx, snapshot.Key)
}

// export copies a snapshot that lasts as long as the copying does.
func export(ctx context.Context, args []string, out io.Writer) error {
	args, err := parse("export", args, 3, 3, noFlags)
	if err != nil {
		return err
	}
	sr, err := at(ctx, args[0])
	if err != nil {
		return err
	}
	target := args[2]
	if err := mayMake(target); err != nil {
		return err
	}
	start := time.Now()
	var size int64
	if target == "-" {
		var s *stream
		if s, err = openStdout(out); err == nil {
			size, err = exportVolume(ctx, sr, args[1], s)
		}
	} else {
		size, err = exportVolumeTo(ctx, sr, args[1], target)
	}
	if err != nil {
		return err
	}
	return said(out, target, "%s in %v", units.Bytes(size), time.Since(start).Round(time.Millisecond))
}

// exportVolumeTo writes beside the file, and gives it its name when it is whole.
func exportVolumeTo(ctx context.Context, sr repository.SR, key, target string) (size int64, err error) {
	partial, err := openPartial(target)
	if err != nil {
		return 0, err
	}
	defer partial.Close()
	if err = partial.Truncate(0); err == nil { // whatever an interrupted export left
		size, err = exportVolume(ctx, sr, key, &stream{Writer: partial, file: partial, holes: true})
	}
	if err != nil {
		os.Remove(partial.Name())
		return 0, err
	}
	return size, rename(partial.Name(), target)
}

// exportVolume copies a volume. Who is ended takes its snapshot along.
func exportVolume(ctx context.Context, sr repository.SR, key string, to *stream) (size int64, err error) {
	v, err := repository.ParseVolume(sr, key)
	if err != nil {
		return 0, err
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	var p *progress
	size, err = v.Export(ctx, to, func(done, total int64) {
		if p == nil {
			p = newProgress("exporting", total)
		}
		p.reach(done)
		if done == total {
			p.end()
		}
	})
	if err != nil && ctx.Err() == nil && p != nil { // else it may go on yet, and change p
		p.end()
	}
	return size, err
}

// untilEnded is ctx until the process is told to end; the cause says so.
func untilEnded(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case s := <-interrupted:
			cancel(fmt.Errorf("ended by %v", s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(interrupted)
		cancel(nil)
	}
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// oneLine makes a foreign text safe for a terminal.
func oneLine(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` {
		return q
	}
	return s
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
