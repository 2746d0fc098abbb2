package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/xapidb"
	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/repository"
)

func (s *session) convert() *cobra.Command {
	var dry, abandon bool
	database := ""
	c := s.takes(s.answersJSON(command("convert SOURCE SR", "make the disks of an EXT, NFS or file SR volumes of this one",
		`convert makes each disk of an SR that keeps them as VHDs (EXT, NFS, file) a volume of
the SR, with the UUID that it has. SOURCE is the directory of its <uuid>.vhd files; it
is only read, and nobody may write to it meanwhile: shut its VMs down, and unplug it.
What disks and their snapshots have in common there, in base copies, they share here:
all of it takes about the room of one copy.

It tells first what it would do, and asks. Each disk is read again in the end, by way
of all its files, and compared byte by byte with what was made of it, before it is a
volume. Files that cannot be read are refused, with their trees; others are converted.
What is interrupted goes on where it was, by the same command; --abandon gives back the
room of what only that needs.

Names, descriptions, and what is a snapshot of what, are in the toolstack's database
only: `+xapidb.Default+`, or the copy that --database names (made on the pool's master:
xe pool-dump-database file-name=FILE). Without one disks are called by their UUIDs, and
all of them are writable.`,
		`  srctl convert --dry-run /mnt/old tank
  srctl convert --database pool.db /mnt/old tank
  srctl convert --abandon tank`, 1, 2, func(ctx context.Context, args []string) error {
			switch {
			case abandon && len(args) == 2:
				return misused("--abandon wants only the SR")
			case abandon:
				return s.abandonConversion(ctx, args[0])
			case len(args) == 1:
				return misused("an argument is missing: SOURCE SR")
			}
			return s.convertSR(ctx, args[0], args[1], database, dry)
		})), aFile, anSR)
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only tell what would be done")
	c.Flags().BoolVar(&abandon, "abandon", false, "remove from SR what an interrupted conversion needs to go on")
	c.Flags().StringVar(&database, "database", "", "`FILE` with the toolstack's database")
	return c
}

func (s *session) convertSR(ctx context.Context, source, to, database string, dry bool) error {
	sr, err := s.at(ctx, to)
	if err != nil {
		return err
	}
	db, err := openDatabase(database)
	if err != nil {
		return err
	}
	if source, err = filepath.Abs(source); err != nil {
		return err
	}
	ctx, end := untilEnded(ctx)
	defer end()
	stop := busy("reading " + oneLine(source))
	c, err := s.planConversion(ctx, source, sr, db)
	stop()
	if err != nil {
		return err
	}
	defer c.source.Close()
	told := c.told(s)
	if !s.json {
		err = s.printConversion(c, told)
	}
	if err == nil && !dry && c.left() > 0 {
		err = s.confirmed("make %d volumes in %s", c.left(), oneLine(s.path))
		if err == nil {
			err = s.runConversion(ctx, c, &told)
		}
	}
	if err == nil {
		err = c.refused()
	}
	return s.tellIn(told, err)
}

// openDatabase opens the toolstack's database: nil if none is named, and there is none.
func openDatabase(path string) (*xapidb.Database, error) {
	db, err := xapidb.Open(cmp.Or(path, xapidb.Default))
	if path == "" && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return db, err
}

// runConversion makes what is not there.
func (s *session) runConversion(ctx context.Context, c *conversion, told *toldConversion) error {
	start := time.Now()
	err := withProgress(ctx, "converting", func(moved func(done, total int64)) error { return c.run(ctx, moved) })
	told.count(c)
	if err != nil {
		return fault.Hint(fmt.Errorf("%w; %d of %d volumes are there", err, c.volumes-c.left(), c.volumes),
			"the same command goes on from there; srctl convert --abandon %s removes what only that needs", s.path)
	}
	told.Seconds = time.Since(start).Seconds()
	if s.json {
		return nil
	}
	_, err = fmt.Fprintf(s.out, "%d volumes are there, compared byte by byte with %s, after %v\n", c.volumes, oneLine(c.source.Path), time.Since(start).Round(time.Millisecond))
	return err
}

// run makes what is not there: first what is there is compared, so that nothing is made of what is another.
func (c *conversion) run(ctx context.Context, moved func(done, total int64)) error {
	done, total := int64(0), int64(0)
	for _, st := range c.steps {
		total += st.costs()
	}
	moved(0, total)
	counted := func(st *step, do func(moved func(int64)) error) error {
		before := done
		err := do(func(n int64) {
			done = min(done+n, before+st.costs())
			if done < total { // the end is told once
				moved(done, total)
			}
		})
		if err == nil {
			done = before + st.costs()
		}
		return err
	}
	var others []error // what is there and another, as a disk that was written to since it was converted
	for _, st := range c.steps {
		if !st.there || st.same || st.c.Base {
			continue
		}
		if err := counted(st, func(moved func(int64)) error {
			return c.sr.CheckConverted(ctx, st.c, c.compare(ctx, st, moved))
		}); err != nil {
			if !errors.Is(err, fault.ErrDamaged) {
				return err
			}
			if st.isNeeded() {
				return fault.Hint(fmt.Errorf("volume %s is there already, holds something else, and others are to be made of it: %w", st.c.Key, err),
					"convert to another SR; if nobody has written to it since it was converted, and nobody needs it, destroy it")
			}
			others = append(others, fmt.Errorf("volume %s is there already, and holds something else: it stays as it is: %w", st.c.Key, err))
		}
		st.same = true
	}
	for _, root := range c.roots {
		if err := c.make(ctx, root, counted); err != nil {
			return err
		}
	}
	moved(total, total)
	return errors.Join(others...)
}

// isNeeded says whether something is to be made of what a step makes.
func (st *step) isNeeded() bool {
	return slices.ContainsFunc(st.children, func(child *step) bool { return child.needed && !child.same || child.isNeeded() })
}

// make makes a file's disk or base, and then all that is made of it.
func (c *conversion) make(ctx context.Context, st *step, counted func(*step, func(moved func(int64)) error) error) error {
	if st.needed && !st.same {
		if err := counted(st, func(moved func(int64)) error {
			if st.c.Base && st.there { // of another source, or nobody knows of which
				if err := c.sr.RemoveBase(ctx, st.c.Key); err != nil {
					return err
				}
			}
			give := func(to repository.Patch) error {
				return st.file.Read(func(v *image.VHD) error { return v.CopyOwn(ctx, to, moved) })
			}
			check := c.compare(ctx, st, moved)
			if st.c.Base { // all that is made of it is compared
				check = func(repository.Reading, int64) error { return nil }
			}
			return c.sr.Convert(ctx, st.c, give, check)
		}); err != nil {
			return err
		}
		st.there, st.same = true, true
	}
	for _, child := range st.children {
		if err := c.make(ctx, child, counted); err != nil {
			return err
		}
	}
	if st.c.Base && st.there {
		return c.sr.RemoveBase(ctx, st.c.Key)
	}
	return nil
}

// compare reads the disk that a file is by way of all below it, as a reader does that knows nothing of how it was converted.
func (c *conversion) compare(ctx context.Context, st *step, moved func(int64)) func(repository.Reading, int64) error {
	return func(r repository.Reading, size int64) error {
		return st.file.ReadWhole(func(m *image.Image) error { return m.Compare(ctx, r, size, moved) })
	}
}

// abandonConversion removes what an interrupted conversion has left.
func (s *session) abandonConversion(ctx context.Context, name string) error {
	sr, err := s.at(ctx, name)
	if err != nil {
		return err
	}
	bases, err := sr.Bases(ctx)
	if err != nil {
		return err
	}
	if len(bases) > 0 {
		if err := s.confirmed("remove from %s %d base copies, without which an interrupted conversion begins anew with what is not made yet", oneLine(s.path), len(bases)); err != nil {
			return err
		}
	}
	if err := sr.AbandonConversion(ctx); err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, map[string]any{"path": s.path, "removed": len(bases)})
	}
	_, err = fmt.Fprintf(s.out, "%s: %d base copies removed\n", oneLine(s.path), len(bases))
	return err
}
