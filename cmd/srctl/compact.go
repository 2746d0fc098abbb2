package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"reflinksr/internal/repository"
	"reflinksr/internal/units"
)

// worthwhile is how many percent of an extent have to be of no use by default: to give back less, more than nine times
// as much would be written.
const worthwhile = 10

func compact(ctx context.Context, args []string, out io.Writer) error {
	var dry bool
	percent := worthwhile
	args, err := parse("compact", args, 2, 2, func(f *flag.FlagSet) {
		f.BoolVar(&dry, "n", false, "")
		f.IntVar(&percent, "unused", worthwhile, "")
	})
	if err != nil {
		return err
	}
	if percent < 0 || percent > 100 {
		return errUsage
	}
	v, err := volumeAt(ctx, args[0], args[1])
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
		_, err = fmt.Fprintf(out, "%s: extents less than %d %% of which are unused keep %s more; -unused 0 would write %s for that\n",
			key, percent, units.Bytes(c.Kept), units.Bytes(c.KeptWrites))
	}
	return err
}
