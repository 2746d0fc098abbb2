package load

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// summary is what came of one load on one setup.
type summary struct {
	Load string `json:"load"`
	setup
	Seed        uint64         `json:"seed"`
	Snapshots   int            `json:"snapshots"`
	Ways        map[string]int `json:"ways,omitempty"`         // how many were taken in which way
	MustPreCopy bool           `json:"must_pre_copy"`          // the disk is in so many pieces that some should have been
	Disturbed   int            `json:"disturbed,omitempty"`    // calls that something befell in time
	Committed   int            `json:"killed_after,omitempty"` // calls that were killed after they had made a snapshot
	Writes      int            `json:"writes"`                 // acknowledged, discards and the like as well; of ext4, files fsynced
	During      int            `json:"during"`                 // of these, under way during a call
	Stall       time.Duration  `json:"longest_stall"`          // ns
	Base        times          `json:"without_snapshot"`       // of what was under way in the times before the calls
	Called      times          `json:"during_calls"`           // of what was under way during calls
	verdict
	calls []sample
}

// times are how long operations took.
type times struct {
	Longest time.Duration `json:"longest"` // ns
	P99     time.Duration `json:"p99"`     // ns
}

// timesOf sorts them.
func timesOf(all []time.Duration) times {
	if len(all) == 0 {
		return times{}
	}
	slices.Sort(all)
	return times{all[len(all)-1], all[len(all)*99/100]}
}

// sample is one call for a snapshot.
type sample struct {
	extents int
	took    time.Duration
	stall   time.Duration // longest write that was under way
}

// judged adds the verdict on one snapshot.
func (s *summary) judged(v verdict, of string) {
	for i := range v.Why {
		v.Why[i] = of + ": " + v.Why[i]
	}
	s.verdict.add(v)
}

// line is what -json tells of one snapshot.
type line struct {
	Load string `json:"load"`
	setup
	Number  int           `json:"snapshot"`
	Way     string        `json:"way,omitempty"`
	More    string        `json:"more,omitempty"` // from which snapshot it started, or why it was not taken in the better way
	Extents int           `json:"extents,omitempty"`
	Took    time.Duration `json:"took"`             // ns
	Stall   time.Duration `json:"stall,omitempty"`  // ns
	Base    time.Duration `json:"base,omitempty"`   // ns, the longest in the time before
	During  int           `json:"during,omitempty"` // writes under way during the call
	verdict
}

// tell completes a summary from the whole history, and writes its lines.
func (r *run) tell(s *summary, h history, all []taken) error {
	for _, writes := range h {
		s.Writes += len(writes)
		for _, w := range writes {
			s.Stall = max(s.Stall, w.took)
		}
	}
	s.Snapshots, s.Ways = len(all), map[string]int{}
	var without, called []time.Duration
	for _, t := range all {
		during, before := h.during(t.call), h.during(t.control)
		without, called = append(without, before...), append(called, during...)
		s.During += len(during)
		s.Ways[t.name]++
		stall := timesOf(during).Longest
		s.calls = append(s.calls, sample{t.extents, t.took, stall})
		if err := r.line(line{s.Load, s.setup, t.number, t.name, t.more, t.extents, t.took, stall, timesOf(before).Longest, len(during), t.verdict}); err != nil {
			return err
		}
	}
	s.Base, s.Called = timesOf(without), timesOf(called)
	return nil
}

// table tells the sums: what was judged, and how long it took.
func (r *run) table(sums []summary) error {
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfilesystem\tdirect I/O\tload\tsnapshots\twrites\tduring calls\ttorn\tout of order\tmissing\tfuture\tlongest stall\tcall: median, longest")
	for _, s := range sums {
		during := fmt.Sprint(s.During)
		if s.Load == "ext4" {
			during = "-" // its clerks do not tell
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", s.FS, onOff(s.DirectIO), s.Load, s.Snapshots, s.Writes, during,
			s.Torn, s.OutOfOrder, s.Missing, s.Future, short(s.Stall), callTimes(s.calls))
	}
	fmt.Fprintln(w, "\nfilesystem\tdirect I/O\tload\tpre-copy\tFICLONE\tafter pre-copy\tno answer\tdisturbed\tlongest write: without, during calls, ratio\tp99: without, during calls")
	for _, s := range sums {
		if len(s.Ways) > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", s.FS, onOff(s.DirectIO), s.Load, s.Ways[preCopy], s.Ways[atOnce], s.Ways[gaveUp], s.Ways[killed.name], s.Disturbed,
				compared(s.Base.Longest, s.Called.Longest), short(s.Base.P99)+", "+short(s.Called.P99))
		}
	}
	fmt.Fprintln(w, "\nfilesystem\tdirect I/O\textents\tsnapshots\tlongest stall\tcall: median, longest")
	for _, s := range sums {
		if s.Load == "direct" {
			byExtents(w, s)
		}
	}
	return w.Flush()
}

func compared(base, called time.Duration) string {
	if base == 0 {
		return "-, " + short(called)
	}
	return fmt.Sprintf("%s, %s, %.1f", short(base), short(called), float64(called)/float64(base))
}

// byExtents tells how the calls' times depend on the number of the disk's extents.
func byExtents(w io.Writer, s summary) {
	for least := 0; least < growingBlocks; least = max(10, 10*least) {
		most := max(10, 10*least) - 1
		var some []sample
		stall := time.Duration(0)
		for _, c := range s.calls {
			if c.extents >= least && c.extents <= most {
				some = append(some, c)
				stall = max(stall, c.stall)
			}
		}
		if len(some) > 0 {
			fmt.Fprintf(w, "%s\t%s\t%d to %d\t%d\t%s\t%s\n", s.FS, onOff(s.DirectIO), least, most, len(some), short(stall), callTimes(some))
		}
	}
}

// callTimes are the median and the longest.
func callTimes(calls []sample) string {
	if len(calls) == 0 {
		return "-"
	}
	var all []time.Duration
	for _, c := range calls {
		all = append(all, c.took)
	}
	slices.Sort(all)
	return short(all[len(all)/2]) + ", " + short(all[len(all)-1])
}

func short(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
