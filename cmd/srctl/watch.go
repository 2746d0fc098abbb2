package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"reflinksr/internal/diskstat"
	"reflinksr/internal/repository"
)

// leastInterval is how often can be looked at most: looking costs something.
const leastInterval = 100 * time.Millisecond

var watchColumns = []column{{title: "KEY", cut: keysEnd}, {title: "NAME", cut: textsEnd}, {title: "DOMAIN", cut: textsEnd}, {title: "SIZE", numbers: true}, {title: "ALLOCATED", numbers: true},
	{title: "GROWS/S", numbers: true}, {title: "READ/S", numbers: true}, {title: "WRITE/S", numbers: true}, {title: "IOPS", numbers: true}, {title: "LATENCY", numbers: true},
	{title: "EXTENTS", numbers: true}, {title: "STALL", numbers: true}}

// dispensable are columns in the order in which a terminal that is too narrow is spared them.
var dispensable = []string{"SIZE", "GROWS/S", "KEY", "ALLOCATED", "EXTENTS", "DOMAIN", "LATENCY"}

func (s *session) watch() *cobra.Command {
	interval, count := time.Second, 0
	c := s.takes(s.narrowed(s.answersJSON(command("watch [SR]", "show live what guests do with disks, and how SRs fill",
		`watch shows, every second, the attached SRs, those that are full or nearly so first, with their
free space, and their disks: which domain has one, how fast it grows, what is read and written,
how many requests that is and how long one takes, how many extents the disk has, and for about how
long a guest's write waits when a snapshot is taken (STALL).

On a terminal the table stays in its place until Ctrl-C, and leaves out columns for which there is
no room. In a pipe there is a table for each interval, or, with --json, a line with an object.
What goes away meanwhile is shown as gone for a while.

Figures of devices are the kernel's, so watching costs guests nothing. Extents are counted one disk
after the other, for at most a fiftieth of the time, and each disk's at most every ten seconds; what
is not counted yet is shown as -. Counting has a guest's write wait for some hundred extents at a time.`,
		`  srctl watch
  srctl watch tank --sort -write/s --filter 'name=web*'
  srctl watch -n 1 --interval 10s
  srctl watch --json | jq '.srs[].disks[] | select(.write_latency_ms > 50)'`, 0, 1,
		func(ctx context.Context, args []string) error {
			switch {
			case interval < leastInterval:
				return misused("--interval %v: %v at least", interval, leastInterval)
			case count < 0:
				return misused("--count %d: 0 is without an end", count)
			}
			return s.watchSRs(ctx, args, interval, count)
		})), watchColumns), anSR)
	c.Flags().DurationVar(&interval, "interval", interval, "how long from one look to the next: `TIME` as in 500ms, 10s, 1m")
	c.Flags().IntVarP(&count, "count", "n", 0, "end after so many tables; 0: go on")
	return c
}

// watchSRs looks until it is told to end, which is no failure.
func (s *session) watchSRs(ctx context.Context, args []string, interval time.Duration, count int) error {
	for _, name := range append(filterNames(s.filters), strings.TrimPrefix(s.sort, "-")) {
		if _, err := find(watchColumns, name); name != "" && err != nil {
			return err
		}
	}
	srs, err := s.someOrAll(ctx, args)
	if err != nil {
		return err
	}
	ctx, stop := untilEnded(ctx)
	defer stop()
	w := &watching{s: s, counter: newCounter(ctx)}
	if len(args) > 0 {
		w.named = srs
	}
	var out show = &listed{s: s}
	if f, ok := bare(s.out).(*os.File); ok && !s.json && term.IsTerminal(int(f.Fd())) {
		screen := newScreen(f)
		defer screen.leave()
		out = screen
	}
	if err := w.look(ctx); err != nil { // of which only counters are of use
		return err
	}
	if out.atOnce() {
		if err := out.show(w); err != nil {
			return err
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; count == 0 || n < count; {
		select {
		case <-ctx.Done():
			return nil
		case what := <-w.counter.failed:
			panic(what)
		case sig := <-out.changed():
			out.got(sig)
			if err := out.show(w); err != nil {
				return err
			}
		case <-tick.C:
			if err := w.look(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if err := out.show(w); err != nil {
				return err
			}
			n++
		}
	}
	return out.end(w)
}

func filterNames(filters []string) (names []string) {
	for _, f := range filters {
		name, _, _ := strings.Cut(f, "=")
		names = append(names, name)
	}
	return names
}

// show is where tables go.
type show interface {
	atOnce() bool              // the first look is shown as well, though nothing is known of rates
	changed() <-chan os.Signal // it may have to be shown anew
	got(os.Signal)             // that came
	show(w *watching) error
	end(w *watching) error // that was the last one
}

// watching is what is known from one look to the next.
type watching struct {
	s       *session
	named   []repository.SR // none: all that are attached
	counter *counter

	at      time.Time
	passed  time.Duration               // since the look before; 0: there was none
	former  map[repository.SR]watchedSR // by its handle
	meter   diskstat.Meter[repository.Disk]
	watched []watchedSR
}

// watchedSR is an SR for programs.
type watchedSR struct {
	Path     string        `json:"path"`
	UUID     string        `json:"uuid"`
	Name     string        `json:"name"`
	Health   string        `json:"health"`
	Warning  string        `json:"warning"`
	Shortage string        `json:"shortage"` // FULL, LOW or ""
	Free     int64         `json:"free_space"`
	Total    int64         `json:"total_space"`
	Gone     bool          `json:"gone"`
	Disks    []watchedDisk `json:"disks"`

	handle repository.SR
	looks  int // for how many it is gone
}

// watchedDisk is a disk for programs; what is not known is null.
type watchedDisk struct {
	Key         repository.Key `json:"key"`
	Name        string         `json:"name"`
	Path        string         `json:"path"`
	Gone        bool           `json:"gone"`
	Domains     []string       `json:"domains"`
	Device      *string        `json:"device"`
	Size        int64          `json:"virtual_size"`
	Allocated   int64          `json:"allocated_bytes"`
	Growth      *float64       `json:"growth_bytes_per_second"`
	ReadBytes   *float64       `json:"read_bytes_per_second"`
	WriteBytes  *float64       `json:"write_bytes_per_second"`
	Reads       *float64       `json:"reads_per_second"`
	Writes      *float64       `json:"writes_per_second"`
	ReadTime    *float64       `json:"read_latency_ms"`
	WriteTime   *float64       `json:"write_latency_ms"`
	InFlight    *uint64        `json:"in_flight"`
	Extents     *int           `json:"extents"`
	ExtentsAge  *float64       `json:"extents_age_seconds"`
	Stall       *int64         `json:"snapshot_stall_ms"`
	StallBefore *int64         `json:"snapshot_stall_at_once_ms"`

	latency time.Duration
	looks   int // for how many it is gone
}
