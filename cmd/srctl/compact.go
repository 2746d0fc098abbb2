package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

// worthwhile is how many percent of an extent have to be of no use by default: to give back less, more than nine times
// as much would be written.
const worthwhile = 10

func (s *session) compact() *cobra.Command {
	var dry bool
	var percent int
	c := s.takes(s.answersJSON(command("compact SR VOLUME", "give back what btrfs keeps of extents used in part",
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
		})), anSR, aVolume)
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
	stopped := busy("looking at extents")
	plan, err := v.PlanCompaction(ctx, percent)
	stopped()
	if err != nil {
		return err
	}
	told := compacted{Key: v.Key, Path: filepath.Join(s.path, string(v.Key)), Plan: figuresOf(plan)}
	if !s.json {
		err = s.printPlan(v.Key, plan, percent)
	}
	if err != nil || dry || plan.Extents == 0 {
		return s.tellIn(told, err)
	}
	start := time.Now()
	ctx, stop := untilEnded(ctx)
	defer stop()
	p := newProgress("compacting", plan.Writes)
	done, err := v.Compact(ctx, percent, func(done, _ int64) { p.reach(done) })
	p.end()
	told.Done = new(figures)
	*told.Done = figuresOf(done)
	if done.Extents > 0 && !s.json {
		fmt.Fprintf(out, "%s: %s given back, %s written in %v\n", v.Key, s.bytes(done.GivesBack), s.bytes(done.Writes), time.Since(start).Round(time.Millisecond))
	}
	if err != nil && done.Extents > 0 {
		err = fmt.Errorf("%w (what is done stays done: the same command goes on from there)", err)
	}
	return s.tellIn(told, err)
}

// compacted is what compact answers to programs.
type compacted struct {
	Key  repository.Key `json:"key"`
	Path string         `json:"path"`
	Plan figures        `json:"plan"`
	Done *figures       `json:"done"` // null: nothing was
}

// figures are what compacting costs and brings, sizes in bytes.
type figures struct {
	Filesystem string `json:"filesystem"`
	Extents    int    `json:"extents"`
	Writes     int64  `json:"writes"`
	Needs      int64  `json:"needs"`
	GivesBack  int64  `json:"gives_back"`
	Kept       int64  `json:"kept"`
	KeptWrites int64  `json:"kept_writes"`
}

func figuresOf(c repository.Compaction) figures { return figures(c) }

// tellIn answers a program, also if something failed.
func (s *session) tellIn(value any, err error) error {
	if s.json {
		return errors.Join(err, printJSON(s.out, value))
	}
	return err
}

// printPlan tells what compacting will cost and bring.
func (s *session) printPlan(key repository.Key, c repository.Compaction, percent int) (err error) {
	switch {
	case c.Filesystem != "btrfs":
		_, err = fmt.Fprintf(s.out, "%s: nothing to gain: %s gives back every block as soon as nobody has it\n", key, c.Filesystem)
		return err
	case c.Extents == 0:
		_, err = fmt.Fprintf(s.out, "%s: nothing to gain\n", key)
	default:
		_, err = fmt.Fprintf(s.out, "%s: gives back %s of %d extents, for which %s are written; %s have to be free meanwhile\n",
			key, s.bytes(c.GivesBack), c.Extents, s.bytes(c.Writes), s.bytes(c.Needs))
	}
	if err == nil && c.Kept > 0 {
		_, err = fmt.Fprintf(s.out, "%s: extents less than %d %% of which are unused keep %s more; --unused 0 would write %s for that\n",
			key, percent, s.bytes(c.Kept), s.bytes(c.KeptWrites))
	}
	return err
}
