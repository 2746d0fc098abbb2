package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/xapidb"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// one makes what is done with a volume one of a command's arguments SR VOLUME.
func (s *session) one(do func(ctx context.Context, v repository.Volume) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		v, err := s.volumeAt(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		return do(ctx, v)
	}
}

func (s *session) snapshot() *cobra.Command {
	var t tagging
	c := s.takes(s.answersJSON(command("snapshot SR VOLUME", "take a snapshot; prints its key",
		`snapshot makes a read-only volume with what the volume holds at this moment, and
prints its key. No data is copied, and a guest may go on writing.

With --keep it is one of a row, called as the disk is and when it was taken, and older ones of
the row are destroyed if they are not to be kept any more: of each of so many last hours,
days, weeks (from Monday), months or years, in UTC, that have one the last is kept, and of
the last so many all. No other snapshot is touched: none that was not taken with this --tag
of this disk, none that is in use, and none that srctl backup begins with. The newest is
always kept, and so is what is later than now, for the clock was put back then. To keep one
for good, clone it. If thinning out fails, the new snapshot is there all the same, its key
is printed, and the exit status is 1.`,
		`  srctl snapshot tank web
  SNAPSHOT=$(srctl snapshot /srv/tank $KEY)
  srctl snapshot tank web --name 'before the upgrade'
  srctl snapshot tank web --keep hourly=24,daily=7,weekly=4
  srctl snapshot tank web --keep last=3 --tag upgrades`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			return s.takeSnapshot(ctx, v, t)
		}))), anSR, aVolume)
	c.Flags().StringVar(&t.name, "name", "", "its `NAME`")
	c.Flags().StringVar(&t.tag, "tag", "", "the `TAG` of the row that it is one of, \"keep\" where --keep is said")
	c.Flags().StringVar(&t.keep, "keep", "", "what is kept: `RULES` like last=3,hourly=24,daily=7,weekly=4,monthly=12,yearly=5")
	takesTime(c, &t.at)
	return c
}

func (s *session) clone() *cobra.Command {
	return s.takes(s.answersJSON(command("clone SR VOLUME", "make a writable clone; prints its key",
		`clone makes a writable volume with what the volume holds at this moment, and prints
its key. No data is copied.`,
		`  srctl clone tank $SNAPSHOT`, 2, 2, s.one(func(ctx context.Context, v repository.Volume) error {
			stop := busy("cloning")
			made, err := v.Clone(ctx)
			stop()
			return s.made(made, err)
		}))), anSR, aVolume)
}

// made tells the key of a new volume.
func (s *session) made(v repository.VolumeStat, err error) error {
	switch {
	case err != nil:
		return err
	case s.json:
		return printJSON(s.out, s.disk(v))
	}
	fmt.Fprintln(s.out, v.Key)
	return nil
}

func (s *session) destroy() *cobra.Command {
	unused, u := false, unusing{}
	c := s.takes(s.answersJSON(command("destroy SR VOLUME...", "destroy volumes that are not in use, or all that nobody uses",
		`destroy removes volumes, for good. One that somebody has is refused. What they share
with others stays theirs; srctl du tells what is given back.

With --unused it removes all disks of the SR that nothing uses as far as the
toolstack's database tells, once it has listed them: nothing in that names them but
the SR and other disks: no VM, template or snapshot of a VM has a VBD of them, and
none is suspended to them; they are of the type user (and not, say, of HA); nobody has
them attached; and they had been there for an hour when the database was written.
Snapshots are kept; with --snapshots those go too that nothing names and whose disk goes
or is gone. What the database does not have is listed, and kept. The database must not
be older than an hour: on the pool's master it is `+xapidb.Default+`; elsewhere it has to
be copied from there (xe pool-dump-database file-name=FILE) and named by --database, and its time by
--written: a copy does not tell.`,
		`  srctl destroy tank 0a1b2c3d
  srctl destroy --yes tank $SNAPSHOT $OLDER
  srctl destroy --unused tank`, 1, 1000, func(ctx context.Context, args []string) error {
			switch {
			case unused && len(args) > 1:
				return misused("--unused finds the volumes itself: %q is one argument too many", args[1])
			case unused:
				return s.destroyUnused(ctx, args[0], u)
			case u != unusing{}:
				return misused("--snapshots and --database are for --unused")
			case len(args) == 1:
				return misused("one more argument is missing")
			}
			return s.destroyVolumes(ctx, args)
		})), anSR, aVolume, aVolume, aVolume, aVolume)
	c.Flags().BoolVar(&unused, "unused", false, "all that nothing uses")
	c.Flags().BoolVar(&u.snapshots, "snapshots", false, "of what nothing uses, snapshots as well")
	c.Flags().StringVar(&u.database, "database", "", "`FILE` with the toolstack's database")
	c.Flags().StringVar(&u.written, "written", "", "the `TIME` at which FILE was dumped, as of date -u +%Y-%m-%dT%H:%M:%SZ before")
	return c
}

func (s *session) destroyVolumes(ctx context.Context, args []string) error {
	var all []repository.VolumeStat
	var sr repository.SR
	for _, arg := range args[1:] {
		v, err := s.volumeAt(ctx, args[0], arg)
		if err != nil {
			return err
		}
		st, err := v.Stat(ctx) // one that is damaged can be destroyed
		if errors.Is(err, fault.ErrVolumeNotFound) {
			return err // to the toolstack that is success; a person has mistyped
		}
		st.Key, sr = v.Key, v.SR
		all = append(all, st)
	}
	question := "destroy " + s.described(all[0])
	if len(all) > 1 {
		question = fmt.Sprintf("destroy %d volumes, the first of them %s,", len(all), s.described(all[0]))
	}
	if err := s.sure("%s", question); err != nil {
		return err
	}
	gone, failed := []aDisk{}, error(nil)
	for _, st := range all {
		if err := (repository.Volume{SR: sr, Key: st.Key}).Destroy(ctx); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		gone = append(gone, s.disk(st))
	}
	if s.json {
		return errors.Join(failed, printJSON(s.out, gone))
	}
	return failed
}

// described is a volume in a question.
func (s *session) described(v repository.VolumeStat) string {
	text := "volume " + string(v.Key)
	if v.Name != "" {
		text += " (" + oneLine(v.Name) + ")"
	}
	return text + " of " + s.bytes(v.VirtualSize)
}

func (s *session) revert() *cobra.Command {
	return s.takes(s.answersJSON(command("revert SR SNAPSHOT VOLUME", "give a volume the contents of a snapshot",
		`revert gives a volume the contents of a snapshot. The volume keeps its key; what it
held is lost, unless it is snapshotted first. It must be idle.`,
		`  srctl snapshot tank web
  srctl revert tank $SNAPSHOT web`, 3, 3, func(ctx context.Context, args []string) error {
			snapshot, v, err := s.volumesAt(ctx, args[0], args[1], args[2])
			if err != nil {
				return err
			}
			st, err := v.Stat(ctx)
			if err != nil {
				return err
			}
			if err := s.sure("replace all that %s holds by what snapshot %s does", s.described(st), snapshot.Key); err != nil {
				return err
			}
			stop := busy("reverting")
			err = v.Revert(ctx, snapshot.Key)
			stop()
			if err != nil || !s.json {
				return err
			}
			if st, err = v.Stat(ctx); err != nil {
				return err
			}
			return printJSON(s.out, s.disk(st))
		})), anSR, aVolume, aVolume)
}
