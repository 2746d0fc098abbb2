package explore

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/disk"
	"reflinksr/cmd/srcrash/internal/trace"
)

// Modes are all ways to disturb a command.
var Modes = []string{"kill", "term", "err", "look", "short", "lazy", "journal", "double"}

// Errnos are what calls fail with, and whether also for good: an interrupted call
// is repeated by every program, so one that is always interrupted never ends; and
// a process runs out of descriptors only where it opens something.
var Errnos = []struct {
	Name   string
	Errno  syscall.Errno
	Sticky bool
	Opens  bool
}{
	{"ENOSPC", unix.ENOSPC, true, false},
	{"EIO", unix.EIO, true, false},
	{"EROFS", unix.EROFS, true, false},
	{"EDQUOT", unix.EDQUOT, true, false},
	{"EINTR", unix.EINTR, false, true},
	{"EMFILE", unix.EMFILE, false, true},
}

// Denied are what calls fail with that only look at something or open it, and whether
// also for good. What cannot be looked at is not absent, not somebody's and not damaged.
var Denied = []struct {
	Name   string
	Errno  syscall.Errno
	Sticky bool
}{
	{"EIO", unix.EIO, true},
	{"ENOMEM", unix.ENOMEM, false},
	{"EACCES", unix.EACCES, false},
}

// Plan is what to explore.
type Plan struct {
	Modes []string // err:EIO is err with that error number only
	// Part of Parts is explored, from 1; 1 of 1 is everything. Which part a fault
	// belongs to follows from its name, so the parts together are the whole.
	Part, Parts int
	// Keep, unless "", is a directory for the images of what was judged wrong.
	Keep string
}

func (p Plan) includes(kind string, s Subject, f Fault) bool {
	h := fnv.New32a()
	fmt.Fprint(h, kind, s.Name(), f.Mode, f.Errno, f.Sticky)
	return p.Parts <= 1 || (int(h.Sum32()%uint32(p.Parts))+f.N)%p.Parts == p.Part%p.Parts
}

// Verdict is one judged state.
type Verdict struct {
	Subject string   `json:"subject"`
	FS      string   `json:"fs"`
	Fault   Fault    `json:"fault"`
	Ended   string   `json:"ended"`           // how the command ended
	Wrong   []string `json:"wrong,omitempty"` // nothing: it was judged well
	Image   string   `json:"image,omitempty"` // what was kept
}

// Engine explores on one kind of filesystem.
type Engine struct {
	Shelf *disk.Shelf
	Kind  string
	Dir   string // where it is mounted
	// Prefix begins the names of the images, so that several engines can have one shelf.
	Prefix string

	blank bool
	mount *disk.Mount
}

// Images on the shelf.
const (
	blankImage = "blank" // an empty filesystem
	baseImage  = "base"  // the state before
	runImage   = "run"   // of the run that goes on
	leftImage  = "left"  // what a kill has left
)

func (e *Engine) clone(from, to string) error { return e.Shelf.Clone(e.Prefix+from, e.Prefix+to) }

// Explore explores a subject and reports each judged state. An error means that
// nothing was proven: the exploration itself could not be carried out.
func (e *Engine) Explore(s Subject, p Plan, report func(Verdict)) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s on %s: %w", s.Name(), e.Kind, err), s.End(), e.unmount())
		}
	}()
	x := &exploration{Engine: e, s: s, plan: p, report: report}
	x.looks = slices.ContainsFunc(p.Modes, func(m string) bool { return strings.HasPrefix(m, "look") })
	if err := x.setup(); err != nil {
		return err
	}
	if err := x.baseline(); err != nil {
		return err
	}
	if err := x.sabotage(); err != nil {
		return err
	}
	for _, mode := range p.Modes {
		var err error
		mode, errno, _ := strings.Cut(mode, ":")
		switch mode {
		case "kill":
			err = x.each(Fault{Mode: mode}, trace.Action{Kill: true}, anyChange)
		case "term":
			err = x.each(Fault{Mode: mode}, trace.Action{Signal: unix.SIGTERM}, anyChange)
		case "short":
			err = x.each(Fault{Mode: mode}, trace.Action{Short: true}, func(s *trace.Stop) bool { return s.Length > 1 && s.Kind == trace.Change })
		case "err":
			err = x.errors(errno)
		case "look":
			err = x.denials(errno)
		case "lazy", "journal":
			err = x.power(mode)
		case "double":
			err = x.double()
		default:
			err = fmt.Errorf("there is no mode %q; there are %s", mode, strings.Join(Modes, ", "))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	return nil
}

type exploration struct {
	*Engine
	s      Subject
	plan   Plan
	report func(Verdict)
	calls  []*trace.Stop // of the undisturbed command
	looks  bool          // with those that only look
}

// anyChange picks the calls that a command can be interrupted at with effect.
func anyChange(s *trace.Stop) bool {
	return s.Kind == trace.Change || s.Kind == trace.Sync || s.Kind == trace.Output
}

func (e *Engine) setupBlank() error {
	if e.blank {
		return nil
	}
	e.blank = true
	return e.Shelf.Format(e.Kind, e.Prefix+blankImage)
}

func (e *Engine) mountImage(name string) (err error) {
	e.mount, err = e.Shelf.Mount(e.Kind, e.Prefix+name, e.Dir)
	return err
}

func (e *Engine) unmount() error {
	if e.mount == nil {
		return nil
	}
	m := e.mount
	e.mount = nil
	return m.Unmount()
}

// setup makes the image that every run begins with.
func (x *exploration) setup() error {
	if err := x.setupBlank(); err != nil {
		return err
	}
	if err := x.clone(blankImage, baseImage); err != nil {
		return err
	}
	if err := x.mountImage(baseImage); err != nil {
		return err
	}
	if err := x.s.Setup(); err != nil {
		return fmt.Errorf("making the state before: %w", err)
	}
	return errors.Join(x.s.End(), x.unmount())
}

// fresh begins a run on a clone of an image.
func (x *exploration) fresh(image string) error {
	if err := x.clone(image, runImage); err != nil {
		return err
	}
	if err := x.mountImage(runImage); err != nil {
		return err
	}
	return x.s.Begin()
}

// end ends a run.
func (x *exploration) end() error { return errors.Join(x.s.End(), x.unmount()) }

// run runs a command and has every call in scope seen.
func (x *exploration) run(c trace.Command, scope []string, see func(*trace.Stop) trace.Action) (trace.Result, error) {
	c.Looks = x.looks
	c.Stop = func(s *trace.Stop) trace.Action {
		if s.Kind == trace.Output || s.Below(scope...) {
			return see(s)
		}
		return trace.Action{}
	}
	return trace.Run(c)
}

// baseline runs the command undisturbed and has the subject learn from it.
func (x *exploration) baseline() error {
	if err := x.fresh(baseImage); err != nil {
		return err
	}
	c, scope := x.s.Command()
	r, err := x.run(c, scope, func(s *trace.Stop) trace.Action {
		x.calls = append(x.calls, s)
		return trace.Action{}
	})
	if err != nil {
		return err
	}
	if r.Succeeded() == x.s.Refused() {
		return fmt.Errorf("undisturbed it ends with %s: %s%s", ended(r), r.Stdout, r.Stderr)
	}
	if !x.s.Refused() && !slices.ContainsFunc(x.calls, func(s *trace.Stop) bool { return s.Kind == trace.Change }) {
		return errors.New("undisturbed it changes nothing: there is nothing to explore")
	}
	ending := Ending{Result: r, Ended: true, Said: r.Stdout}
	if err := x.s.Learn(ending); err != nil {
		return err
	}
	if wrong := x.s.Judge(ending); len(wrong) > 0 {
		return fmt.Errorf("undisturbed it is judged wrong: %s", strings.Join(wrong, "; "))
	}
	return x.end()
}

// sabotage makes sure that the judge notices something.
func (x *exploration) sabotage() error {
	if err := x.mountBefore(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := x.begin(); err != nil {
			return err
		}
		c, _ := x.s.Command()
		r, err := trace.Run(c)
		if err != nil {
			return err
		}
		how, err := x.s.Spoil(i)
		if err != nil {
			return err
		}
		if how == "" {
			if i == 0 {
				return errors.New("no way is known to spoil what it leaves: the judge may be blind")
			}
			return x.end()
		}
		if wrong := x.s.Judge(Ending{Result: r, Ended: true, Said: r.Stdout}); len(wrong) == 0 {
			return fmt.Errorf("the judge is blind: %s, and it found nothing wrong", how)
		}
		if err := x.finish(); err != nil {
			return err
		}
	}
}

// mountBefore mounts the state before, for several runs on one mount.
func (x *exploration) mountBefore() error {
	if x.s.Alone() {
		return nil
	}
	if err := x.clone(baseImage, runImage); err != nil {
		return err
	}
	if err := x.mountImage(runImage); err != nil {
		return err
	}
	return x.keepFiles()
}

// begin begins a run on a mount that has had others, or on one of its own.
func (x *exploration) begin() error {
	if x.s.Alone() {
		return x.fresh(baseImage)
	}
	if err := x.resetFiles(); err != nil {
		return err
	}
	return x.s.Begin()
}

// finish ends what begin has begun.
func (x *exploration) finish() error {
	if x.s.Alone() {
		return x.end()
	}
	return x.s.End()
}

// count counts the calls of the undisturbed command that are picked. Up to the one
// that is disturbed a run makes the same.
func (x *exploration) count(pick func(*trace.Stop) bool) (n int) {
	for _, s := range x.calls {
		if pick(s) {
			n++
		}
	}
	return n
}

// each disturbs the command at every call that is picked, one in each run. Where what
// is answered must be durable although the call that makes it so has failed, the run
// is on a filesystem of its own, and the power fails after it.
func (x *exploration) each(f Fault, a trace.Action, pick func(*trace.Stop) bool) error {
	var synced, rest []Fault
	for _, s := range x.calls {
		if !pick(s) {
			continue
		}
		f.N++
		switch {
		case !x.plan.includes(x.Kind, x.s, f):
		case s.Kind == trace.Sync && f.Mode == "err" && !f.Sticky:
			synced = append(synced, f)
		default:
			rest = append(rest, f)
		}
	}
	if err := x.disturbAll(rest, a, pick); err != nil {
		return err
	}
	for _, f := range synced {
		if err := x.fresh(baseImage); err != nil {
			return err
		}
		ending, err := x.disturb(&f, a, pick)
		if err == nil {
			err = x.mount.Cut(x.Prefix + cutImage(0))
		}
		if err != nil {
			return err
		}
		x.judge(f, ending)
		if err := x.end(); err != nil {
			return err
		}
		ending.Cut = true
		if err := x.judgeCut(f, ending, cutImage(0)); err != nil {
			return err
		}
	}
	return nil
}

// disturbAll makes one run for each fault, all on one mount.
func (x *exploration) disturbAll(faults []Fault, a trace.Action, pick func(*trace.Stop) bool) error {
	if len(faults) == 0 {
		return nil
	}
	if err := x.mountBefore(); err != nil {
		return err
	}
	for _, f := range faults {
		if err := x.begin(); err != nil {
			return err
		}
		ending, err := x.disturb(&f, a, pick)
		if err != nil {
			return err
		}
		x.judge(f, ending)
		if err := x.finish(); err != nil {
			return err
		}
	}
	return x.unmount()
}

// disturb makes one run with a fault, and says how it ended.
func (x *exploration) disturb(f *Fault, a trace.Action, pick func(*trace.Stop) bool) (Ending, error) {
	c, scope := x.s.Command()
	n := 0
	r, err := x.run(c, scope, func(s *trace.Stop) trace.Action {
		if !pick(s) {
			return trace.Action{}
		}
		n++
		if n == f.N {
			f.Call, f.Stop = x.s.Plain(s.String()), s
			return a
		}
		if n > f.N && f.Sticky && s.Kind != trace.Output {
			return a
		}
		return trace.Action{}
	})
	if n < f.N {
		// It made fewer calls this time: it needed no second try for a device, say. What
		// it left must be right all the same.
		f.Call = "none: it was not disturbed"
		return Ending{Result: r, Ended: true, Said: r.Stdout}, err
	}
	return Ending{Result: r, Fault: f, Ended: r.Status.Exited(), Said: r.Stdout}, err
}

// errors lets calls fail, with one error number or with all.
func (x *exploration) errors(only string) error {
	for _, e := range Errnos {
		if only != "" && only != e.Name {
			continue
		}
		pick := func(s *trace.Stop) bool { return s.Kind == trace.Change || s.Kind == trace.Sync }
		if e.Opens {
			pick = func(s *trace.Stop) bool { return anyChange(s) || s.Kind == trace.Open }
		}
		if e.Errno == unix.EIO {
			pick = anyChange // the answer as well
		}
		if e.Errno == unix.EMFILE {
			pick = func(s *trace.Stop) bool { return strings.HasPrefix(s.Name, "open") }
		}
		for _, sticky := range []bool{false, true} {
			if sticky && !e.Sticky {
				continue
			}
			if err := x.each(Fault{Mode: "err", Errno: e.Name, Sticky: sticky}, trace.Action{Errno: e.Errno}, pick); err != nil {
				return err
			}
		}
	}
	return nil
}

// denials lets calls fail that only look or open, with one error number or with all.
func (x *exploration) denials(only string) error {
	pick := func(s *trace.Stop) bool { return s.Kind == trace.Read || s.Kind == trace.Open }
	for _, e := range Denied {
		if only != "" && only != e.Name {
			continue
		}
		for _, sticky := range []bool{false, true} {
			if sticky && !e.Sticky {
				continue
			}
			if err := x.each(Fault{Mode: "look", Errno: e.Name, Sticky: sticky}, trace.Action{Errno: e.Errno}, pick); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge has a state judged and reports the verdict.
func (x *exploration) judge(f Fault, ending Ending) {
	v := Verdict{Subject: x.s.Name(), FS: x.Kind, Fault: f, Ended: ended(ending.Result)}
	if ending.Cut && !ending.Ended {
		v.Ended = "power cut"
	}
	if ending.Result.Hung {
		v.Wrong = append(v.Wrong, "it hung and was killed")
	}
	v.Wrong = append(v.Wrong, x.s.Judge(ending)...)
	if len(v.Wrong) > 0 && x.plan.Keep != "" {
		v.Image = x.keep(v)
	}
	x.report(v)
}

// keep copies the image of what was judged wrong out of the shelf.
func (x *exploration) keep(v Verdict) string {
	name := fmt.Sprintf("%s-%s-%s%s-%d-%d.img", strings.ReplaceAll(v.Subject, "/", "_"), v.FS, v.Fault.Mode, v.Fault.Errno, v.Fault.N, v.Fault.Again)
	path := filepath.Join(x.plan.Keep, name)
	if err := x.Shelf.Export(x.Prefix+runImage, path); err != nil {
		return "not kept: " + err.Error()
	}
	return path
}

func ended(r trace.Result) string {
	switch {
	case r.Hung:
		return "hung"
	case r.Status.Signaled():
		return r.Status.Signal().String()
	case r.Succeeded():
		return "answered"
	case len(r.Stdout) == 0:
		return fmt.Sprintf("exit status %d without an answer", r.Status.ExitStatus())
	}
	return "refused"
}

func cutImage(i int) string { return fmt.Sprintf("cut-%d", i) }

// cut is an image of the disk at a moment.
type cut struct {
	fault Fault
	ended bool
	said  []byte
}

// cuts runs a command with a power cut at each of its calls, and after its end.
// Moments between which nothing was written to the disk are one.
func (x *exploration) cuts(mode string, c trace.Command, scope []string) (all []cut, r trace.Result, err error) {
	fd, err := unix.MemfdCreate("stdout", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, r, err
	}
	c.Stdout = os.NewFile(uintptr(fd), "stdout")
	defer c.Stdout.Close()
	n, written := 0, uint64(0)
	look := func(call string, ended bool) error {
		if mode == "journal" {
			if err := x.mount.Commit(); err != nil {
				return err
			}
		}
		now, err := x.mount.Written()
		if err != nil {
			return err
		}
		if len(all) > 0 && now == written && !ended {
			return nil
		}
		written = now
		said, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", c.Stdout.Fd()))
		if err != nil {
			return err
		}
		all = append(all, cut{Fault{Mode: mode, N: n, Call: call}, ended, said})
		return x.mount.Cut(x.Prefix + cutImage(len(all)-1))
	}
	var failed error
	r, err = x.run(c, scope, func(s *trace.Stop) trace.Action {
		if anyChange(s) && failed == nil {
			n++
			failed = look(x.s.Plain(s.String()), false)
		}
		return trace.Action{}
	})
	n++
	return all, r, errors.Join(err, failed, look("after its end", true))
}

// power cuts the power at every call.
func (x *exploration) power(mode string) error {
	if err := x.fresh(baseImage); err != nil {
		return err
	}
	c, scope := x.s.Command()
	all, r, err := x.cuts(mode, c, scope)
	if err != nil {
		return err
	}
	if err := x.end(); err != nil {
		return err
	}
	for i, cut := range all {
		if cut.ended || x.plan.includes(x.Kind, x.s, cut.fault) {
			e := Ending{Fault: &cut.fault, Cut: true, Ended: cut.ended, Said: cut.said}
			if cut.ended {
				e.Result = r
			}
			if err := x.judgeCut(cut.fault, e, cutImage(i)); err != nil {
				return err
			}
			continue
		}
		if err := x.Shelf.Drop(x.Prefix + cutImage(i)); err != nil {
			return err
		}
	}
	return nil
}

// judgeCut mounts the image of a power cut and has it judged.
func (x *exploration) judgeCut(f Fault, ending Ending, image string) error {
	if err := os.Rename(x.Shelf.Path(x.Prefix+image), x.Shelf.Path(x.Prefix+runImage)); err != nil {
		return err
	}
	if err := x.mountImage(runImage); err != nil {
		x.report(Verdict{Subject: x.s.Name(), FS: x.Kind, Fault: f, Ended: "power cut", Wrong: []string{err.Error()}})
		return nil
	}
	if err := x.s.Restart(); err != nil {
		return err
	}
	x.judge(f, ending)
	return x.end()
}

// double interrupts the recovery from everything that a kill leaves.
func (x *exploration) double() error {
	var seen []string
	for n := 1; n <= x.count(anyChange); n++ {
		f := Fault{Mode: "double", N: n}
		if !x.plan.includes(x.Kind, x.s, f) {
			continue // with all that follows from it
		}
		left, err := x.leave(&f)
		if err != nil {
			return err
		}
		if slices.Contains(seen, left) {
			continue // the same as after an earlier kill
		}
		seen = append(seen, left)
		if err := x.interruptRecovery(f); err != nil {
			return err
		}
	}
	return nil
}

// leave makes the image of what a kill and a restart leave, and tells what the
// recovery does with it.
func (x *exploration) leave(f *Fault) (does string, err error) {
	if err := x.fresh(baseImage); err != nil {
		return "", err
	}
	c, scope := x.s.Command()
	n := 0
	_, err = x.run(c, scope, func(s *trace.Stop) trace.Action {
		if anyChange(s) {
			if n++; n == f.N {
				f.Call, f.Stop = x.s.Plain(s.String()), s
				return trace.Action{Kill: true}
			}
		}
		return trace.Action{}
	})
	if err := errors.Join(err, x.end()); err != nil {
		return "", err
	}
	if err := x.clone(runImage, leftImage); err != nil {
		return "", err
	}
	if err := x.restarted(); err != nil {
		return "", err
	}
	var calls []string
	_, err = x.run(x.s.Recovery(), scope, func(s *trace.Stop) trace.Action {
		if anyChange(s) {
			calls = append(calls, x.s.Plain(s.String()))
		}
		return trace.Action{}
	})
	return strings.Join(calls, "\n"), errors.Join(err, x.end())
}

// restarted begins a run on what was left, after a restart of the host.
func (x *exploration) restarted() error {
	if err := x.clone(leftImage, runImage); err != nil {
		return err
	}
	if err := x.mountImage(runImage); err != nil {
		return err
	}
	return x.s.Restart()
}

func (x *exploration) interruptRecovery(f Fault) error {
	_, scope := x.s.Command()
	for f.Again = 1; ; f.Again++ {
		if err := x.restarted(); err != nil {
			return err
		}
		n := 0
		r, err := x.run(x.s.Recovery(), scope, func(s *trace.Stop) trace.Action {
			if anyChange(s) {
				if n++; n == f.Again {
					return trace.Action{Kill: true}
				}
			}
			return trace.Action{}
		})
		if err != nil {
			return err
		}
		if n < f.Again {
			if err := x.end(); err != nil {
				return err
			}
			break
		}
		if err := x.s.Restart(); err != nil {
			return err
		}
		x.judge(f, Ending{Result: r, Fault: &f, Recovered: true})
		if err := x.end(); err != nil {
			return err
		}
	}
	if err := x.restarted(); err != nil {
		return err
	}
	all, _, err := x.cuts("lazy", x.s.Recovery(), scope)
	if err != nil {
		return err
	}
	if err := x.end(); err != nil {
		return err
	}
	for i, cut := range all {
		f := f
		f.Mode, f.Again = "double lazy", cut.fault.N
		if err := x.judgeCut(f, Ending{Fault: &f, Cut: true, Recovered: true}, cutImage(i)); err != nil {
			return err
		}
	}
	return nil
}
