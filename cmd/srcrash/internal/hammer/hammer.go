// Package hammer makes many calls of a plugin at once, real processes on few
// volumes, kills some of them, and finds out whether what they answered can have
// come of the same calls one after another (it is linearizable), and whether what
// was answered is there at the end.
package hammer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/owned"
	"reflinksr/scripts/scratch"
)

// filesystemSize is sparse; nothing comes near it.
const filesystemSize = 4 << 30

// checkTimeout is how long the checker may take over one part of a history.
const checkTimeout = 60 * time.Second

// options are what both commands can be told.
type options struct {
	kinds    string
	installs rig.Plugin
	json     string
	load     Workload
	seed     uint64
	seeds    int
	ctx      context.Context
	log      *os.File
	stop     bool
	failed   int
}

func (o *options) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet("srcrash "+name, flag.ContinueOnError)
	f.StringVar(&o.kinds, "fs", "btrfs,xfs", "`filesystems` to do it on")
	f.StringVar(&o.installs.Volume, "volume", "", "`directory` of the volume plugin to call instead of the one in this program")
	f.StringVar(&o.installs.Datapath, "datapath", "", "`directory` of its datapath plugin")
	f.BoolVar(&o.stop, "stop", false, "end with the first seed that has a violation")
	f.StringVar(&o.json, "json", "", "`file` to which a line is written for each seed, and the history of each failure")
	f.IntVar(&o.load.Workers, "workers", o.load.Workers, "calls at once")
	f.IntVar(&o.load.Kills, "kills", 0, "`percent` of the calls whose process is killed")
	f.IntVar(&o.load.Volumes, "volumes", o.load.Volumes, "volumes at once, at most")
	f.Uint64Var(&o.seed, "seed", 0, "first `seed`: what is chosen follows from it, timing does not")
	return f
}

// Hammer is the command srcrash hammer.
func Hammer(args []string, out io.Writer) error {
	o := &options{load: Workload{Workers: 8}}
	f := o.flags("hammer")
	f.IntVar(&o.seeds, "seeds", 1, "how many seeds")
	f.IntVar(&o.load.Calls, "calls", 800, "calls of each seed")
	invariants := f.Bool("invariants", false, "check no more than what can be checked of any number of workers")
	f.DurationVar(&o.load.For, "for", 0, "with -invariants, how long instead of -calls")
	if err := parse(f, args, out); err != nil {
		return err
	}
	if o.load.For > 0 {
		if !*invariants {
			return errors.New("-for needs -invariants: a history that long cannot be checked for order")
		}
		o.load.Calls = 0
	}
	judge := linearizable
	if *invariants {
		judge = invariant
	}
	return o.run(out, func(kind, dir string) {
		for i := range uint64(o.seeds) {
			load := o.load
			load.Mix = mixes[(o.seed+i)%uint64(len(mixes))]
			if o.load.Volumes > 0 {
				load.Volumes = o.load.Volumes
			}
			o.round(out, kind, dir, o.seed+i, load, judge)
		}
	})
}

// Storm is the command srcrash storm.
func Storm(args []string, out io.Writer) error {
	o := &options{load: Workload{Workers: 32, Mix: storm}}
	f := o.flags("storm")
	f.DurationVar(&o.load.For, "for", 20*time.Second, "how long, with few and with many volumes")
	if err := parse(f, args, out); err != nil {
		return err
	}
	few, many := 4, 64
	if o.load.Volumes > 0 {
		few, many = o.load.Volumes, o.load.Volumes
	}
	return o.run(out, func(kind, dir string) {
		for i, n := range slices.Compact([]int{few, many}) {
			load := o.load
			load.Volumes, load.Filled = n, n*3/4
			o.round(out, kind, dir, o.seed+uint64(i), load, invariant)
		}
	})
}

func parse(f *flag.FlagSet, args []string, out io.Writer) error {
	f.SetOutput(out)
	if err := f.Parse(args); err != nil {
		return flag.ErrHelp // it has said why
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	return nil
}

// run makes each filesystem, and does something on it, until it is interrupted.
func (o *options) run(out io.Writer, do func(kind, dir string)) error {
	ctx, stop := signal.NotifyContext(context.Background(), scratch.Endings()...)
	defer stop()
	o.ctx = ctx
	if o.load.Workers < 1 || o.load.Workers > 32 {
		return errors.New("-workers: 1 to 32: a domain is a bit of 64, and each has two")
	}
	var err error
	if o.installs, err = rig.At(o.installs.Volume, o.installs.Datapath); err != nil {
		return err
	}
	if err := rig.PrivateHost(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(memory(), "srcrash-hammer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.installs.Volume == "" {
		if o.installs, err = rig.Install(dir); err != nil {
			return err
		}
	}
	if o.json != "" {
		if o.log, err = os.OpenFile(o.json, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
			return err
		}
		defer o.log.Close()
	}
	for _, kind := range strings.Split(o.kinds, ",") {
		if err := o.on(kind, filepath.Join(dir, kind), do); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case o.failed > 0:
		return fmt.Errorf("%d seeds with violations", o.failed)
	}
	return nil
}

// on does something on a filesystem of a kind, and takes that away with all devices
// of its files.
func (o *options) on(kind, dir string, do func(kind, dir string)) error {
	fs, err := scratch.Make(kind, filesystemSize, dir)
	if err != nil {
		return err
	}
	do(kind, dir)
	left, err := owned.Loops(owned.Below(dir))
	if len(left) > 0 {
		o.failed++
	}
	return errors.Join(err, owned.Detach(left), fs.Remove())
}

// memory is where a filesystem's image costs no disk's time, if there is such a place.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// Summary is what came of one seed, a line of the log.
type Summary struct {
	Filesystem string         `json:"filesystem"`
	Seed       uint64         `json:"seed"`
	Mix        string         `json:"mix"`
	Workers    int            `json:"workers"`
	Kills      int            `json:"kills"` // percent asked for
	Calls      int            `json:"calls"`
	Killed     int            `json:"killed"`
	Snapshots  int            `json:"snapshots"`
	Volumes    int            `json:"volumes"` // that there ever were
	Parts      int            `json:"parts"`   // of the history, checked one by one
	Steps      int            `json:"steps"`
	Illegal    int            `json:"illegal"`
	Unknown    int            `json:"unknown"`
	Violations []string       `json:"violations,omitempty"`
	Answers    map[string]int `json:"answers"`
	Took       time.Duration  `json:"took_ns"`
	Checked    time.Duration  `json:"checked_ns"`
	Slowest    time.Duration  `json:"slowest_ns"`
	SlowCall   string         `json:"slow_call"`
}

// failure is a history that is not right, a line of the log.
type failure struct {
	Filesystem string   `json:"filesystem"`
	Seed       uint64   `json:"seed"`
	Volumes    []string `json:"volumes"`
	Result     string   `json:"result"`
	History    []*Event `json:"history"`
}

// round is one seed on one filesystem, told in a line, or in several if it failed.
func (o *options) round(out io.Writer, kind, dir string, seed uint64, load Workload, judge judge) {
	sum := Summary{Filesystem: kind, Seed: seed, Mix: load.Name, Workers: load.Workers, Kills: load.Kills, Answers: map[string]int{}}
	if o.ctx.Err() != nil || o.stop && o.failed > 0 {
		return
	}
	start := time.Now()
	r, err := begin(o.installs, dir, seed, load)
	if err != nil {
		o.failed++
		fmt.Fprintf(out, "FAIL %s seed %d: %v\n", kind, seed, err)
		return
	}
	stop := context.AfterFunc(o.ctx, func() { r.over.Store(true) })
	defer stop()
	history := r.end(r.hammer())
	if o.ctx.Err() != nil {
		return // half a workload is no result
	}
	sum.count(history)
	sum.Took = time.Since(start)
	sum.Slowest, sum.SlowCall = time.Duration(r.slowest.Load()), fmt.Sprint(r.slow.Load())
	all, violations := parts(history)
	sum.Parts = len(all)
	for _, p := range all {
		sum.Steps += len(p.steps)
		sum.Volumes += len(p.keys)
	}
	start = time.Now()
	bad := judge(all)
	sum.Checked = time.Since(start)
	for _, err := range append(r.violations, violations...) {
		sum.Violations = append(sum.Violations, err.Error())
	}
	for _, v := range bad {
		if v.result == porcupine.Unknown {
			sum.Unknown++
		} else {
			sum.Illegal++
		}
	}
	o.write(sum)
	sum.tell(out)
	for _, v := range bad {
		v.tell(out)
		var events []*Event
		for _, s := range v.part.sorted() {
			if !slices.Contains(events, s.event) {
				events = append(events, s.event)
			}
		}
		o.write(failure{kind, seed, v.part.keys, string(v.result), events})
	}
	if sum.bad() {
		o.failed++
	}
}

func (s *Summary) bad() bool { return s.Illegal+s.Unknown+len(s.Violations) > 0 }

func (o *options) write(line any) {
	if o.log != nil {
		json.NewEncoder(o.log).Encode(line)
	}
}

func (s *Summary) count(history []*Event) {
	for _, e := range history {
		if strings.Contains(e.Method, ".") {
			s.Calls++
		}
		if e.Answer == Killed {
			s.Killed++
		}
		if e.Method == "Volume.snapshot" && e.Answer == OK {
			s.Snapshots++
		}
		s.Answers[e.Method+": "+string(e.Answer)]++
	}
}

func (s *Summary) tell(out io.Writer) {
	word := "ok  "
	if s.bad() {
		word = "FAIL"
	}
	fmt.Fprintf(out, "%s %-5s seed %-4d %-10s %5d calls (%d killed, %d snapshots, %d volumes) in %5.2f s; %5d steps in %d parts checked in %5.2f s: %d illegal, %d unknown, %d other violations; slowest %s %.2f s\n",
		word, s.Filesystem, s.Seed, s.Mix, s.Calls, s.Killed, s.Snapshots, s.Volumes, s.Took.Seconds(), s.Steps, s.Parts, s.Checked.Seconds(),
		s.Illegal, s.Unknown, len(s.Violations), s.SlowCall, s.Slowest.Seconds())
	for i, v := range s.Violations {
		if i == 20 {
			fmt.Fprintf(out, "     … and %d more\n", len(s.Violations)-i)
			break
		}
		fmt.Fprintf(out, "     %.600s\n", v)
	}
	if s.bad() {
		fmt.Fprintf(out, "     answers:")
		for _, a := range slices.Sorted(maps.Keys(s.Answers)) {
			fmt.Fprintf(out, " %s×%s", a, strconv.Itoa(s.Answers[a]))
		}
		fmt.Fprintln(out)
	}
}

// tell shows a history that is not right: the times in ms since the seed's start,
// the worker, and what was done, in the order in which it began.
func (v *verdict) tell(out io.Writer) {
	short := make([]string, len(v.part.keys))
	for i, key := range v.part.keys {
		short[i] = key[:8]
	}
	fmt.Fprintf(out, "     %s: volumes %v of %d steps: %s\n", v.result, short, len(v.part.steps), v.reason())
	steps := v.part.sorted()
	at := 24
	if len(v.stuck) > 0 {
		at = slices.Index(steps, v.stuck[0])
	}
	from, to := max(0, at-24), min(len(steps), at+24)
	for _, s := range steps[from:to] {
		mark := "  "
		if slices.Contains(v.stuck, s) {
			mark = "? " // among the first that found no place
		}
		fmt.Fprintf(out, "     %s%s\n", mark, s.line(v.part.keys[s.vol]))
	}
}

func (v *verdict) reason() string {
	switch {
	case v.why != "":
		return v.why
	case v.result == porcupine.Unknown:
		return fmt.Sprintf("no order was found or excluded in %v", checkTimeout)
	}
	return fmt.Sprintf("at most %d can be put in an order; the first that cannot have a question mark", v.prefix)
}

// line is the step for people: of a list only what it tells of this volume.
func (s *step) line(key string) string {
	text := s.event.String()
	if s.event.Method == "SR.ls" {
		if s.role == missed {
			return fmt.Sprintf("%s, without %.8s", text, key)
		}
		return fmt.Sprintf("%s, with %.8s: %v", text, key, *s.seen)
	}
	return text
}
