package main

import (
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

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/snapshot"
	"reflinksr/snapshot/cbt"
	"reflinksr/sr"
	"reflinksr/volume"
)

func ls(args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("ls", args, 0, 1, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return lsSRs(asJSON, out)
	}
	handle, err := handleOf(args[0])
	if err != nil {
		return err
	}
	volumes, err := volume.List(handle)
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
		if v.VolumeType == volume.CBTMetadata {
			name += " (data destroyed)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Key, modeOf(v.ReadWrite, v.VolumeType), volume.Bytes(v.VirtualSize), volume.Bytes(v.PhysicalUtilisation), name)
	}
	return w.Flush()
}

// modeOf is what can be done with a volume's data: "cbt" is a snapshot that has none any
// more, and only tells of changed blocks.
func modeOf(readWrite bool, kind string) string {
	switch {
	case kind == volume.CBTMetadata:
		return "cbt"
	case readWrite:
		return "rw"
	}
	return "ro"
}

func lsSRs(asJSON bool, out io.Writer) error {
	handles, err := attached.Handles()
	if err != nil {
		return err
	}
	stats, failed := []sr.Stat{}, error(nil)
	for _, handle := range handles {
		st, err := sr.StatSR(handle, volume.Warning)
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
		path, _, err := layout.ParseHandle(st.SR)
		if err != nil {
			return err
		}
		health := st.Health[0]
		if st.Health[1] != "" {
			health += ", but see below"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", oneLine(path), health, volume.Bytes(st.FreeSpace), volume.Bytes(st.TotalSpace), oneLine(st.Name))
		if st.Health[1] != "" {
			fmt.Fprintf(w, "\t%s\n", printable(st.Health[1]))
		}
	}
	return errors.Join(failed, w.Flush())
}

// detail is what show tells of a volume. Of one whose data was destroyed, what is allocated,
// shared and exclusive is what its file still keeps for comparisons.
type detail struct {
	volume.Volume
	DataDestroyed  bool           `json:"data_destroyed"`
	FreedBytes     int64          `json:"freed_bytes"` // these three are 0 and false of a volume with data
	LostBytes      int64          `json:"lost_bytes"`  // FreedBytes, by its name until 2026
	NoteBytes      int64          `json:"note_bytes"`  // of the file that says which are freed
	Pending        bool           `json:"pending"`     // some of them may not have been given back yet
	SectorSize     int            `json:"sector_size"`
	Created        time.Time      `json:"created"`
	Origin         *volume.Origin `json:"origin"`
	Extents        int            `json:"extents"` // these three are -1 on NFS, which does not tell
	SharedBytes    int64          `json:"shared_bytes"`
	ExclusiveBytes int64          `json:"exclusive_bytes"`
	Stall          string         `json:"snapshot_stall"`
	Holders        []lease.Holder `json:"holders"`
}

func show(args []string, out io.Writer) error {
	var asJSON bool
	args, err := parse("show", args, 2, 2, func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, "") })
	if err != nil {
		return err
	}
	key, err := sr.ParseKey(args[1])
	if err != nil {
		return err
	}
	s, err := openSR(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	d, err := describe(s, key)
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
		row("size", volume.Bytes(d.VirtualSize)+" (of the disk that it was)")
		row("freed", volume.Bytes(d.FreedBytes)+pending(d.Pending))
		row("kept", volume.Bytes(d.PhysicalUtilisation)+" (what others share with it, for comparisons)")
		row("gives back", volume.Bytes(d.ExclusiveBytes+d.NoteBytes)+" when it is destroyed, with its note of "+volume.Bytes(d.NoteBytes))
	case d.Extents < 0:
		row("size", volume.Bytes(d.VirtualSize))
		row("allocated", volume.Bytes(d.PhysicalUtilisation))
		row("extents", "unknown here: the NFS server's filesystem knows")
	default:
		row("size", volume.Bytes(d.VirtualSize))
		row("allocated", volume.Bytes(d.PhysicalUtilisation))
		row("shared", volume.Bytes(d.SharedBytes))
		row("exclusive", volume.Bytes(d.ExclusiveBytes)+" (what destroying it gives back)")
		row("extents", fmt.Sprintf("%d (a snapshot holds up writes for about %s)", d.Extents, d.Stall))
	}
	row("sector size", d.SectorSize)
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

func describe(s *sr.SR, key sr.Key) (detail, error) {
	v, err := volume.Describe(s, key)
	if err != nil {
		return detail{}, err
	}
	r, err := volume.Load(s, key)
	if err != nil {
		return detail{}, err
	}
	f, err := volume.OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return detail{}, err
	}
	defer f.Close()
	u, err := extent.UsageOf(f)
	stall := snapshot.Stall(s.Meta.Filesystem.Type, u.Extents).String()
	if errors.Is(err, fault.ErrNoExtents) {
		u, stall, err = extent.Usage{Shared: -1, Exclusive: -1, Extents: -1}, "", nil
	}
	if err != nil {
		return detail{}, err
	}
	var left cbt.MetadataUsage
	if r.DataDestroyed {
		stall = "" // nobody takes one
		if left, err = cbt.MetadataUsageOf(s, key); err != nil {
			return detail{}, err
		}
	}
	me, err := hostinfo.ThisHost()
	if err != nil {
		return detail{}, err
	}
	held, err := lease.Read(s, key, me)
	return detail{
		Volume: v, DataDestroyed: r.DataDestroyed, FreedBytes: min(left.Freed, v.VirtualSize), LostBytes: min(left.Freed, v.VirtualSize), NoteBytes: left.Note, Pending: left.Pending,
		SectorSize: r.SectorSize, Created: r.Created, Origin: r.Origin,
		Extents: u.Extents, SharedBytes: u.Shared, ExclusiveBytes: u.Exclusive,
		Stall: stall, Holders: held.Holders,
	}, err
}

// one makes a subcommand of what takes a path and a key.
func one(do func(handle, key string, out io.Writer) error) func([]string, io.Writer) error {
	return func(args []string, out io.Writer) error {
		args, err := parse("", args, 2, 2, noFlags)
		if err != nil {
			return err
		}
		handle, err := handleOf(args[0])
		if err != nil {
			return err
		}
		return do(handle, args[1], out)
	}
}

func snapshotCmd(handle, key string, out io.Writer) error {
	v, err := snapshot.Snapshot(handle, key)
	if err == nil {
		fmt.Fprintln(out, v.Key)
	}
	return err
}

func cloneCmd(handle, key string, out io.Writer) error {
	v, err := snapshot.Clone(handle, key)
	if err == nil {
		fmt.Fprintln(out, v.Key)
	}
	return err
}

func destroyCmd(handle, key string, _ io.Writer) error {
	if _, err := volume.Stat(handle, key); errors.Is(err, fault.ErrVolumeNotFound) {
		return err // to the toolstack that is success; a person has mistyped
	}
	return cbt.Destroy(handle, key)
}

func revert(args []string, _ io.Writer) error {
	args, err := parse("revert", args, 3, 3, noFlags)
	if err != nil {
		return err
	}
	handle, err := handleOf(args[0])
	if err != nil {
		return err
	}
	return snapshot.Revert(handle, args[1], args[2])
}

// export copies a snapshot that lasts as long as the copying does.
func export(args []string, out io.Writer) error {
	args, err := parse("export", args, 3, 3, noFlags)
	if err != nil {
		return err
	}
	handle, err := handleOf(args[0])
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
			size, err = exportVolume(handle, args[1], s)
		}
	} else {
		size, err = exportVolumeTo(handle, args[1], target)
	}
	if err != nil {
		return err
	}
	return said(out, target, "%s in %v", volume.Bytes(size), time.Since(start).Round(time.Millisecond))
}

// exportVolumeTo writes beside the file, and gives it its name when it is whole.
func exportVolumeTo(handle, key, target string) (size int64, err error) {
	partial, err := openPartial(target)
	if err != nil {
		return 0, err
	}
	defer partial.Close()
	if err = partial.Truncate(0); err == nil { // whatever an interrupted export left
		size, err = exportVolume(handle, key, &stream{Writer: partial, file: partial, holes: true})
	}
	if err != nil {
		os.Remove(partial.Name())
		return 0, err
	}
	return size, rename(partial.Name(), target)
}

// exportVolume copies a volume, by way of a snapshot, of which nothing is left.
func exportVolume(handle, key string, to *stream) (size int64, err error) {
	// From here on: who is ended takes the snapshot along.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(interrupted)
	v, err := snapshot.Snapshot(handle, key)
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- copyOut(handle, v.Key, to) }()
	select {
	case err = <-done:
	case s := <-interrupted:
		err = fmt.Errorf("ended by %v", s)
	}
	if e := cbt.Destroy(handle, string(v.Key)); e != nil {
		err = errors.Join(err, fmt.Errorf("the snapshot %s stays behind: %w", v.Key, e))
	}
	return v.VirtualSize, err
}

func copyOut(handle string, key sr.Key, to *stream) error {
	s, err := sr.Open(handle, dirfs.Unlocked)
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := volume.OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := copySparse(to, f); err != nil {
		return err
	}
	return to.end()
}

// copySparse copies a file with its holes, in order.
func copySparse(dst *stream, src *os.File) error {
	st, err := src.Stat()
	if err != nil {
		return err
	}
	total := int64(0)
	err = eachData(src, 0, st.Size(), func(start, end int64) error { total += end - start; return nil })
	if err != nil {
		return err
	}
	p := newProgress("exporting", total)
	defer p.end()
	at, buffer := int64(0), make([]byte, len(noughts))
	err = eachData(src, 0, st.Size(), func(start, end int64) error {
		if err := dst.zeros(start - at); err != nil {
			return err
		}
		for at = start; at < end; {
			piece := buffer[:min(end-at, int64(len(buffer)))]
			if _, err := io.ReadFull(io.NewSectionReader(src, at, end-at), piece); err != nil {
				return fmt.Errorf("reading %s at %d: %w", src.Name(), at, err)
			}
			if _, err := dst.Write(piece); err != nil {
				return err
			}
			at += int64(len(piece))
			p.add(int64(len(piece)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return dst.zeros(st.Size() - at)
}

// eachData tells of the pieces between two places of a file that are no holes, in order.
func eachData(f *os.File, from, to int64, do func(start, end int64) error) error {
	for from < to {
		start, err := f.Seek(from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && start >= to { // nothing but a hole follows
			return nil
		}
		if err != nil {
			return err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if from = min(end, to); from > start {
			if err := do(start, from); err != nil {
				return err
			}
		}
	}
	return nil
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
