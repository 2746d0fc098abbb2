package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// restoring is what is said of a restore.
type restoring struct {
	to, name, description string
	destroy               bool
}

func (s *session) restore() *cobra.Command {
	var r restoring
	c := s.takes(s.answersJSON(command("restore DIR DISK[@POINT] [TARGET]", "make a backup a disk of an SR, a file, or what a device holds",
		`restore writes what a disk held at a point in time of which DIR has a backup: to a new
disk of an SR (--to), to a new file (raw, sparse), to a block device, or to a pipe (-).
The disk need not be there any more.

DISK is a key, the beginning of one, or a name, as srctl backups DIR lists them. POINT is
a time or the beginning of one, as it stands there (2026-12-01, if that day has only one),
or a key; without it the newest point is meant.

All that it takes is read and verified before anything is written. A disk of an SR is there
when it is whole, and a file has its name then. A device that is not blank is refused
unless --overwrite says that what it holds may be lost; one that is in use is refused
whatever is said. What is interrupted is done again by the same command.`,
		`  srctl restore /backup web --to tank --name 'web, restored'
  srctl restore /backup web@2026-12-01T03:00:00Z web.raw
  srctl restore /backup 0a1b2c3d@2026-12-01 /dev/xvdb
  srctl restore /backup web - | zstd > web.raw.zst`, 2, 3,
		func(ctx context.Context, args []string) error { return s.restoreDisk(ctx, args, r) })), aFile, aFile, aFile)
	c.Flags().StringVar(&r.to, "to", "", "make it a disk of this `SR`")
	c.Flags().StringVar(&r.name, "name", "", "that disk's `NAME`, instead of the one it had")
	c.Flags().StringVar(&r.description, "description", "", "a `TEXT` about it")
	c.Flags().BoolVar(&r.destroy, "overwrite", false, "whatever the device holds, if nobody uses it")
	return c
}

func (s *session) restoreDisk(ctx context.Context, args []string, said restoring) error {
	switch {
	case said.to == "" && len(args) < 3:
		return misused("say where to: a TARGET, or --to SR")
	case said.to != "" && len(args) == 3:
		return misused("either a TARGET is written or, with --to, a new disk, and not both")
	case said.to == "" && said.name+said.description != "":
		return misused("--name and --description are of a disk of an SR: say --to SR")
	case said.to != "" && said.destroy:
		return misused("--overwrite is for a device: a disk that is made with --to is new")
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	st, p, err := pointAt(dir, args[1])
	if err != nil {
		return err
	}
	if said.to != "" {
		return s.restoreToSR(ctx, st, p, said)
	}
	if err := s.mayAnswer(args[2]); err != nil {
		return err
	}
	files, err := st.openChain(p)
	if err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	defer closeAll(files)
	return s.restoreToTarget(&restored{st, p, files}, args[2], said.destroy)
}

// pointAt finds DISK or DISK@POINT: the newest point, if none is named.
func pointAt(dir, text string) (*store, catalogue.Point, error) {
	disk, point := text, ""
	if i := strings.LastIndex(text, "@"); i >= 0 {
		disk, point = text[:i], text[i+1:]
	}
	st, err := storeOf(dir, disk)
	if err != nil && disk != text {
		if whole, e := storeOf(dir, text); e == nil { // a name can have the sign as well
			st, err, point = whole, nil, ""
		}
	}
	if err != nil {
		return nil, catalogue.Point{}, err
	}
	if point == "" {
		return st, st.Points[len(st.Points)-1], nil
	}
	var found []catalogue.Point
	for _, p := range st.Points {
		if strings.HasPrefix(shownTime(p.At), point) || len(point) >= 4 && strings.HasPrefix(string(p.Key), strings.ToLower(point)) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return st, found[0], nil
	case 0:
		return nil, catalogue.Point{}, fault.Hint(fmt.Errorf("%s has no backup of disk %s of %q", dir, st.Disk, fault.Shorten(point)), "srctl backups lists what it has")
	}
	var all []string
	for _, p := range found[:min(len(found), 10)] {
		all = append(all, fmt.Sprintf("%s (%s)", shownTime(p.At), p.Key))
	}
	return nil, catalogue.Point{}, fault.Hint(fmt.Errorf("%q may be %d points: %s", fault.Shorten(point), len(found), strings.Join(all, ", ")), "say more of the time, or the key")
}

// restored is a point whose streams are open, and verified.
type restored struct {
	st    *store
	p     catalogue.Point
	files []*os.File
}

// header is that of a stream that would be all of the disk at that point.
func (r *restored) header() delta.Header { return delta.Header{To: r.p.Key, ToSize: r.p.Size} }

// each calls do with the records of the disk, in order, which leave nothing out, and moved with how much of the streams was read.
func (r *restored) each(moved func(done, total int64), do func(delta.Record) error) error {
	readers, err := readersOf(r.files)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, f := range r.files {
		size, err := f.Stat()
		if err != nil {
			return err
		}
		total += size.Size()
	}
	err = delta.Merge(readers, func(rec delta.Record) error {
		done := int64(0)
		for _, reader := range readers {
			done += reader.Position()
		}
		moved(done, total)
		return do(rec)
	})
	var of *delta.OfStream
	if errors.As(err, &of) {
		return fmt.Errorf("%s, which was whole when it was verified: %w", r.files[of.Index].Name(), err)
	}
	return err
}

// restoreToSR makes a disk of an SR.
func (s *session) restoreToSR(ctx context.Context, st *store, p catalogue.Point, said restoring) error {
	sr, err := s.at(ctx, said.to)
	if err != nil {
		return err
	}
	files, err := st.openChain(p)
	if err != nil {
		return fmt.Errorf("nothing was written: %w", err)
	}
	defer closeAll(files)
	r := &restored{st, p, files}
	if st.SectorSize == 0 {
		note("nothing tells any more how long the disk's sectors were: it gets those of the SR's disks")
	}
	n := repository.NewVolume{Name: said.name, Description: said.description, Size: p.Size, SectorSize: st.SectorSize}
	if n.Name == "" {
		n.Name = st.Name
	}
	if n.Description == "" {
		n.Description = "restored: disk " + string(st.Disk) + " of " + shownTime(p.At)
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	var made repository.VolumeStat
	err = withProgress(ctx, "restoring", func(moved func(done, total int64)) error {
		made, err = sr.Import(ctx, n, func(to repository.Sink) error {
			err := r.each(moved, func(rec delta.Record) error {
				if rec.Data == nil {
					return to.Zeros(rec.Length)
				}
				_, err := to.Write(rec.Data)
				return err
			})
			if err != nil {
				return err
			}
			return to.End()
		})
		return err
	})
	return s.made(made, err)
}

// restoreToTarget makes a file or a device hold the disk, under the rules of delta apply.
func (s *session) restoreToTarget(r *restored, path string, destroy bool) error {
	begun, h := time.Now(), r.header()
	if path == "-" {
		to, err := openStdout(s.out)
		if err != nil {
			return err
		}
		err = withProgress(context.Background(), "restoring", func(moved func(done, total int64)) error {
			return r.each(moved, func(rec delta.Record) error {
				if rec.Data == nil {
					return to.Zeros(rec.Length)
				}
				_, err := to.Write(rec.Data)
				return err
			})
		})
		if err == nil {
			err = to.End()
		}
		if err != nil {
			return fmt.Errorf("%w: what was written to standard output is incomplete", err)
		}
		return said(s.out, "-", "disk %s of %s, %s in %v", r.st.Disk, shownTime(r.p.At), s.bytes(h.ToSize), time.Since(begun).Round(time.Millisecond))
	}
	t, err := openTarget(path, h, destroy)
	if err != nil {
		return err
	}
	defer t.close()
	wrote := int64(0)
	err = withProgress(context.Background(), "restoring", func(moved func(done, total int64)) error {
		return r.each(moved, func(rec delta.Record) error {
			wrote += int64(len(rec.Data))
			return t.put(rec)
		})
	})
	if err == nil {
		err = t.finish()
	}
	if err != nil {
		return fmt.Errorf("%w: %s is incomplete now: the same command goes on", err, t.name())
	}
	if err := t.publish(); err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, written{Path: path, Key: h.To, Bytes: wrote, Seconds: time.Since(begun).Seconds()})
	}
	_, err = fmt.Fprintf(s.out, "%s holds disk %s of %s: %s, of which %s were written in %v\n", oneLine(path), r.st.Disk, shownTime(r.p.At), s.bytes(h.ToSize), s.bytes(wrote), time.Since(begun).Round(time.Millisecond))
	return err
}
