package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"reflinksr/cmd/srcrash/internal/calls"
	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/scratch"
)

// errFound says that something was judged wrong; it has been printed.
var errFound = errors.New("violations were found")

// sweeping are the flags of a sweep.
type sweeping struct {
	fs, modes string
	match     string
	skip      string
	part      string // of the places in each situation
	every     string // of the situations
	workers   int
	jsonl     string
	keep      string
	dir       string
	plugin    rig.Plugin
}

func (o *sweeping) flags(f *flag.FlagSet) {
	f.StringVar(&o.fs, "fs", "btrfs,xfs", "")
	f.StringVar(&o.modes, "modes", strings.Join(explore.Modes, ","), "")
	f.StringVar(&o.match, "run", "", "")
	f.StringVar(&o.skip, "skip", "", "")
	f.StringVar(&o.part, "part", "1/1", "")
	f.StringVar(&o.every, "every", "1/1", "")
	f.IntVar(&o.workers, "j", 3, "")
	f.StringVar(&o.jsonl, "json", "", "")
	f.StringVar(&o.keep, "keep", "", "")
	f.StringVar(&o.dir, "dir", "", "")
	f.StringVar(&o.plugin.Volume, "volume", "", "")
	f.StringVar(&o.plugin.Datapath, "datapath", "", "")
}

func sweep(args []string, out io.Writer) error {
	var o sweeping
	f := flag.NewFlagSet("sweep", flag.ContinueOnError)
	o.flags(f)
	if err := f.Parse(args); err != nil {
		return flag.ErrHelp
	}
	var err error
	if o.plugin, err = rig.At(o.plugin.Volume, o.plugin.Datapath); err != nil {
		return err
	}
	t, err := o.run(out, true)
	if err != nil {
		return err
	}
	t.print(out)
	if t.wrong > 0 {
		return errFound
	}
	return nil
}

// jobs lists what the flags ask for.
func (o *sweeping) jobs() ([]job, error) {
	match, err := regexp.Compile(o.match)
	if err != nil {
		return nil, err
	}
	skip, err := regexp.Compile(o.skip)
	if err != nil {
		return nil, err
	}
	plan := explore.Plan{Modes: strings.Split(o.modes, ","), Keep: o.keep}
	if plan.Part, plan.Parts, err = share("part", o.part); err != nil {
		return nil, err
	}
	turn, turns, err := share("every", o.every)
	if err != nil {
		return nil, err
	}
	var all []job
	for _, name := range calls.Names() {
		for _, fs := range strings.Split(o.fs, ",") {
			if calls.On(name, fs) && match.MatchString(name) && (o.skip == "" || !skip.MatchString(name)) {
				all = append(all, job{name, fs, plan})
			}
		}
	}
	var some []job
	for i := turn - 1; i < len(all); i += turns {
		some = append(some, all[i])
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("no call matches %q", o.match)
	}
	return some, nil
}

// share reads K/N, the K-th of N shares.
func share(name, text string) (k, n int, err error) {
	if _, err := fmt.Sscanf(text, "%d/%d", &k, &n); err != nil || k < 1 || k > n {
		return 0, 0, fmt.Errorf("-%s %s: want K/N, the K-th of N", name, text)
	}
	return k, n, nil
}

// run sweeps, and says how it goes.
func (o *sweeping) run(out io.Writer, progress bool) (*tally, error) {
	jobs, err := o.jobs()
	if err != nil {
		return nil, err
	}
	dir, err := workDir(o.dir)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	defer onEnding(func() { os.RemoveAll(dir) })()
	if o.plugin.Volume == "" {
		if o.plugin, err = rig.Install(dir); err != nil {
			return nil, err
		}
	}
	t := &tally{start: time.Now()}
	var lines *json.Encoder
	if o.jsonl != "" {
		f, err := os.Create(o.jsonl)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines = json.NewEncoder(f)
	}
	finished := 0
	err = pool{dir, o.plugin, min(o.workers, len(jobs))}.run(jobs, func(v explore.Verdict) {
		t.add(v)
		if lines != nil {
			lines.Encode(v)
		}
		if len(v.Wrong) > 0 && progress {
			fmt.Fprintf(out, "WRONG %s on %s: %s\n", v.Subject, v.FS, describe(v))
		}
	}, func(j job) {
		finished++
		if progress {
			fmt.Fprintf(out, "%3d/%d %5.0f s  %-32s %-5s %d states judged so far, %d wrong\n", finished, len(jobs), time.Since(t.start).Seconds(), j.Subject, j.FS, t.judged, t.wrong)
		}
	})
	return t, err
}

// describe tells a verdict to people.
func describe(v explore.Verdict) string {
	f := v.Fault
	what := f.Mode
	if f.Errno != "" {
		what += " " + f.Errno
	}
	if f.Sticky {
		what += " from there on"
	}
	if f.Again > 0 {
		what += fmt.Sprintf(" (recovery's call %d)", f.Again)
	}
	s := fmt.Sprintf("%s at call %d, %s; %s: %s", what, f.N, f.Call, v.Ended, strings.Join(v.Wrong, "; "))
	if v.Image != "" {
		s += " (image: " + v.Image + ")"
	}
	return s
}

// tally counts verdicts.
type tally struct {
	start         time.Time
	judged, wrong int
	cells         map[string]map[string][2]int // by call, by filesystem and mode
	rows, columns []string
	found         []explore.Verdict
}

func (t *tally) add(v explore.Verdict) {
	if t.cells == nil {
		t.cells = map[string]map[string][2]int{}
	}
	if t.cells[v.Subject] == nil {
		t.cells[v.Subject] = map[string][2]int{}
		t.rows = append(t.rows, v.Subject)
	}
	mode, _, _ := strings.Cut(v.Fault.Mode, " ")
	column := v.FS + " " + mode
	cell := t.cells[v.Subject][column]
	cell[1]++
	t.judged++
	if len(v.Wrong) > 0 {
		cell[0]++
		t.wrong++
		t.found = append(t.found, v)
	}
	t.cells[v.Subject][column] = cell
	if !slices.Contains(t.columns, column) {
		t.columns = append(t.columns, column)
	}
}

// print draws the table: call × filesystem × mode, wrong of judged.
func (t *tally) print(out io.Writer) {
	slices.SortFunc(t.columns, func(a, b string) int {
		fa, ma, _ := strings.Cut(a, " ")
		fb, mb, _ := strings.Cut(b, " ")
		if fa != fb {
			return strings.Compare(fa, fb)
		}
		return slices.Index(explore.Modes, ma) - slices.Index(explore.Modes, mb)
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "call\t%s\t\n", strings.Join(t.columns, "\t"))
	sums := map[string][2]int{}
	for _, name := range t.rows {
		fmt.Fprintf(w, "%s\t", name)
		for _, column := range t.columns {
			cell := t.cells[name][column]
			sums[column] = [2]int{sums[column][0] + cell[0], sums[column][1] + cell[1]}
			fmt.Fprintf(w, "%d/%d\t", cell[0], cell[1])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "all\t")
	for _, column := range t.columns {
		fmt.Fprintf(w, "%d/%d\t", sums[column][0], sums[column][1])
	}
	fmt.Fprintln(w)
	w.Flush()
	seconds := time.Since(t.start).Seconds()
	fmt.Fprintf(out, "%d states judged, %d wrong, in %.0f s (%.0f a minute)\n", t.judged, t.wrong, seconds, float64(t.judged)/seconds*60)
}

// onEnding has something done when the program is asked to end, after its workers
// have ended, and then ends it. What it returns takes that back.
func onEnding(do func()) (forget func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, scratch.Endings()...)
	go func() {
		if _, asked := <-signals; asked {
			endWorkers()
			do()
			os.Exit(1)
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// workDir makes a directory for images: in memory where there is room, because
// every run syncs a disk that nobody will miss.
func workDir(dir string) (string, error) {
	if dir == "" && roomFor("/dev/shm", 3<<30) {
		dir = "/dev/shm"
	}
	return os.MkdirTemp(dir, "srcrash-")
}
