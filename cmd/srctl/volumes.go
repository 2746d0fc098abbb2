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

	"reflinksr/snapshot"
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
		mode := "rw"
		if !v.ReadWrite {
			mode = "ro"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.Key, mode, volume.Bytes(v.VirtualSize), volume.Bytes(v.PhysicalUtilisation), oneLine(v.Name))
	}
	return w.Flush()
}

func lsSRs(asJSON bool, out io.Writer) error {
	handles, err := sr.Attached()
	if err != nil {
		return err
	}
	stats := []sr.Stat{}
	for _, handle := range handles {
		st, err := sr.StatSR(handle, volume.Warning)
		if err != nil {
			return err
		}
		stats = append(stats, st)
	}
	if asJSON {
		return printJSON(out, stats)
	}
	if len(stats) == 0 {
		fmt.Fprintln(out, "no SR is attached on this host")
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tHEALTH\tFREE\tTOTAL\tNAME")
	for _, st := range stats {
		path, _, err := sr.ParseHandle(st.SR)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", oneLine(path), st.Health[0], volume.Bytes(st.FreeSpace), volume.Bytes(st.TotalSpace), oneLine(st.Name))
		if st.Health[1] != "" {
			fmt.Fprintf(w, "\t%s\n", st.Health[1])
		}
	}
	return w.Flush()
}

// detail is what show tells of a volume.
type detail struct {
	volume.Volume
	SectorSize     int             `json:"sector_size"`
	Created        time.Time       `json:"created"`
	Origin         *volume.Origin  `json:"origin"`
	Extents        int             `json:"extents"` // these three are -1 on NFS, which does not tell
	SharedBytes    int64           `json:"shared_bytes"`
	ExclusiveBytes int64           `json:"exclusive_bytes"`
	Stall          string          `json:"snapshot_stall"`
	Holders        []volume.Holder `json:"holders"`
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
	row("size", volume.Bytes(d.VirtualSize))
	row("allocated", volume.Bytes(d.PhysicalUtilisation))
	if d.Extents >= 0 {
		row("shared", volume.Bytes(d.SharedBytes))
		row("exclusive", volume.Bytes(d.ExclusiveBytes)+" (what destroying it gives back)")
		row("extents", fmt.Sprintf("%d (a snapshot holds up writes for about %s)", d.Extents, d.Stall))
	} else {
		row("extents", "unknown here: the NFS server's filesystem knows")
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
	u, err := snapshot.UsageOf(f)
	stall := snapshot.Stall(s.Meta.Filesystem.Type, u.Extents).String()
	if errors.Is(err, sr.ErrNoExtents) {
		u, stall, err = snapshot.Usage{Shared: -1, Exclusive: -1, Extents: -1}, "", nil
	}
	if err != nil {
		return detail{}, err
	}
	me, err := sr.ThisHost()
	if err != nil {
		return detail{}, err
	}
	lease, err := volume.ReadLease(s, key, me)
	return detail{
		Volume: v, SectorSize: r.SectorSize, Created: r.Created, Origin: r.Origin,
		Extents: u.Extents, SharedBytes: u.Shared, ExclusiveBytes: u.Exclusive,
		Stall: stall, Holders: lease.Holders,
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
	if _, err := volume.Stat(handle, key); errors.Is(err, sr.ErrVolumeNotFound) {
		return err // to the toolstack that is success; a person has mistyped
	}
	return snapshot.Destroy(handle, key)
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
	if _, err := os.Lstat(target); err == nil {
		return fmt.Errorf("%s exists already", target)
	}
	partial, err := openPartial(target)
	if err != nil {
		return err
	}
	defer partial.Close()
	err = partial.Truncate(0) // whatever an interrupted export left
	var v volume.Volume
	if err == nil {
		v, err = snapshot.Snapshot(handle, args[1])
	}
	if err != nil {
		os.Remove(partial.Name())
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- copyOut(handle, v.Key, partial) }()
	select {
	case err = <-done:
	case s := <-interrupted:
		err = fmt.Errorf("ended by %v", s)
	}
	if e := snapshot.Destroy(handle, string(v.Key)); e != nil {
		err = errors.Join(err, fmt.Errorf("the snapshot %s stays behind: %w", v.Key, e))
	}
	if err != nil {
		os.Remove(partial.Name())
		return err
	}
	if err := rename(partial.Name(), target); err != nil {
		return err
	}
	st, err := os.Stat(target)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s in %v\n", target, volume.Bytes(st.Size()), time.Since(start).Round(time.Millisecond))
	return nil
}

func copyOut(handle string, key sr.Key, target *os.File) error {
	s, err := sr.Open(handle, sr.Unlocked)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := volume.Load(s, key)
	if err == nil {
		err = r.MustHaveData(key)
	}
	if err != nil {
		return err
	}
	f, err := volume.OpenData(s, key, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(copySparse(target, f), target.Sync())
}

// copySparse copies a file with its holes, to whatever filesystem.
func copySparse(dst, src *os.File) error {
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(st.Size()); err != nil {
		return err
	}
	for end := int64(0); ; {
		start, err := src.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole follows
			return nil
		}
		if err != nil {
			return err
		}
		if end, err = src.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, end-start)); err != nil {
			return err
		}
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
