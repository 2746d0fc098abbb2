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
	Seed      uint64        `json:"seed"`
	Snapshots int           `json:"snapshots"`
	Writes    int           `json:"writes"`        // acknowledged; of ext4, files fsynced
	During    int           `json:"during"`        // of these, under way during a call
	Stall     time.Duration `json:"longest_stall"` // ns
	verdict
	calls []sample
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
	Extents int           `json:"extents,omitempty"`
	Took    time.Duration `json:"took"`             // ns
	Stall   time.Duration `json:"stall,omitempty"`  // ns
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
	s.Snapshots = len(all)
	for i, t := range all {
		during, stall := h.during(t.call)
		s.During += during
		s.calls = append(s.calls, sample{t.extents, t.took, stall})
		if err := r.line(line{s.Load, s.setup, i + 1, t.extents, t.took, stall, during, t.verdict}); err != nil {
			return err
		}
	}
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
			s.Torn, s.OutOfOrder, s.Missing, s.Future, short(s.Stall), times(s.calls))
	}
	fmt.Fprintln(w, "\nfilesystem\tdirect I/O\textents\tsnapshots\tlongest stall\tcall: median, longest")
	for _, s := range sums {
		if s.Load == "direct" {
			byExtents(w, s)
		}
	}
	return w.Flush()
}

// byExtents tells how the calls' times depend on the number of the disk's extents.
func byExtents(w io.Writer, s summary) {
	for least := 0; least < diskBlocks; least = max(10, 10*least) {
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
			fmt.Fprintf(w, "%s\t%s\t%d to %d\t%d\t%s\t%s\n", s.FS, onOff(s.DirectIO), least, most, len(some), short(stall), times(some))
		}
	}
}

// times are the median and the longest.
func times(calls []sample) string {
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
