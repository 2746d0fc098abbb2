package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"

	"github.com/spf13/cobra"
)

// worthwhile is how many percent of an extent have to be of no use by default: to give back less, more than nine times
// as much would be written.
const worthwhile = 10

func (s *session) compact() *cobra.Command {
	var dry bool
	var percent int
	c := command("compact SR VOLUME", "give back what btrfs keeps of extents that the volume uses in part",
		`compact gives back what btrfs keeps of extents of which the volume, and nobody else,
uses only a part, by writing that part anew. It tells beforehand what that brings
and costs. The volume must be idle. When it is interrupted, what is done stays
done, and the same command goes on from there.`,
		`  srctl compact --dry-run /srv/tank $KEY
  srctl compact --unused 0 /srv/tank $KEY`, 2, 2, func(ctx context.Context, args []string) error {
			if percent < 0 || percent > 100 {
				return misused("--unused %d: from 0 to 100 percent", percent)
			}
			return s.compactVolume(ctx, args, dry, percent)
		})
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only tell what it would bring and cost")
	c.Flags().IntVar(&percent, "unused", worthwhile, "rewrite extents of which at least so many `PERCENT` are of no use")
	return c
}

func (s *session) compactVolume(ctx context.Context, args []string, dry bool, percent int) error {
	out := s.out
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	plan, err := v.PlanCompaction(ctx, percent)
	if err != nil {
		return err
	}
	if err := printPlan(out, v.Key, plan, percent); err != nil || dry || plan.Extents == 0 {
		return err
	}
	start := time.Now()
	ctx, stop := untilEnded(ctx)
	defer stop()
	p := newProgress("compacting", plan.Writes)
	done, err := v.Compact(ctx, percent, func(done, _ int64) { p.reach(done) })
	p.end()
	if done.Extents > 0 {
		fmt.Fprintf(out, "%s: %s given back, %s written in %v\n", v.Key, units.Bytes(done.GivesBack), units.Bytes(done.Writes), time.Since(start).Round(time.Millisecond))
	}
	if err != nil && done.Extents > 0 {
		return fmt.Errorf("%w (what is done stays done: the same command goes on from there)", err)
	}
	return err
}

// printPlan tells what compacting will cost and bring.
func printPlan(out io.Writer, key repository.Key, c repository.Compaction, percent int) (err error) {
	switch {
	case c.Filesystem != "btrfs":
		_, err = fmt.Fprintf(out, "%s: nothing to gain: %s gives back every block as soon as nobody has it\n", key, c.Filesystem)
		return err
	case c.Extents == 0:
		_, err = fmt.Fprintf(out, "%s: nothing to gain\n", key)
	default:
		_, err = fmt.Fprintf(out, "%s: gives back %s of %d extents, for which %s are written; %s have to be free meanwhile\n",
			key, units.Bytes(c.GivesBack), c.Extents, units.Bytes(c.Writes), units.Bytes(c.Needs))
	}
	if err == nil && c.Kept > 0 {
		_, err = fmt.Fprintf(out, "%s: extents less than %d %% of which are unused keep %s more; --unused 0 would write %s for that\n",
			key, percent, units.Bytes(c.Kept), units.Bytes(c.KeptWrites))
	}
	return err
}
