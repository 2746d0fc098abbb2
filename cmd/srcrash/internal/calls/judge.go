package calls

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/internal/check"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/sr"
)

// Subject is a call in a situation, to be explored.
type Subject struct {
	kase
	*Host
	world  *world
	before *state // nil until the first run begins
	after  *state // nil until the undisturbed run has ended
}

// Subjects are all calls that change something, on a host.
func Subjects(h *Host) (all []explore.Subject) {
	for _, k := range kases {
		if k.home == "" {
			k.home = "sr"
		}
		all = append(all, &Subject{kase: k, Host: h})
	}
	return append(all, &onDisk{Host: h}, &migration{Host: h, way: "in"}, &migration{Host: h, way: "out"})
}

// Names are the subjects' names.
func Names() (all []string) {
	all = append(all, onDiskName)
	all = append(all, migrations...)
	for _, k := range kases {
		all = append(all, k.name)
	}
	return all
}

// On says whether a subject has something to do on a kind of filesystem.
func On(name, fs string) bool {
	if name == onDiskName {
		return fs == onDiskKind
	}
	return slices.Contains(migrations, name) || slices.ContainsFunc(kases, func(k kase) bool { return k.name == name && (k.on == "" || k.on == fs) })
}

// Name is what the call is called, and what it is made on.
func (c *Subject) Name() string { return c.name }

// Setup makes the world of every call, and what this one needs besides.
func (c *Subject) Setup() error {
	c.world, c.before, c.after = newWorld(c.Host), nil, nil
	w := c.world
	if err := w.clearRun(); err != nil {
		return err
	}
	if err := w.make(); err != nil {
		return err
	}
	if c.prepare != nil {
		if err := c.prepare(w); err != nil {
			return err
		}
	}
	return w.save()
}

// Begin makes the host know what it knew after Setup, and looks at the SRs once.
func (c *Subject) Begin() error {
	w := c.world
	if err := w.restore(); err != nil {
		return err
	}
	if c.detached {
		if err := os.Remove(filepath.Join(rundir.Path, rundir.Attached, w.uuids["sr"]+".json")); err != nil {
			return err
		}
	}
	if c.begin != nil {
		if err := c.begin(w); err != nil {
			return err
		}
	}
	var err error
	if c.before == nil {
		c.before, err = w.look()
	}
	return err
}

// Command is the call, as a toolstack makes it.
func (c *Subject) Command() (trace.Command, []string) {
	if c.command != nil {
		return trace.Command{Path: self, Args: c.command(c.world)}, c.world.scope()
	}
	return c.world.command(c.request(c.world)), c.world.scope()
}

// Recovery is SR.attach, which every boot of a host begins with.
func (c *Subject) Recovery() trace.Command {
	return c.world.command(smapi.SRAttach{Configuration: c.world.configuration(c.home)})
}

// Plain replaces what differs from run to run.
func (c *Subject) Plain(call string) string {
	call = strings.ReplaceAll(call, c.Dir+"/", "")
	call = strings.ReplaceAll(call, rundir.Path, "run")
	call = strings.ReplaceAll(call, ".reflinksr/", "")
	call = strings.ReplaceAll(call, "/memfd:stdout (deleted)", "the answer")
	for name, key := range c.world.keys {
		call = strings.ReplaceAll(call, string(key), "<"+name+">")
	}
	for name, id := range c.world.uuids {
		call = strings.ReplaceAll(call, id, "<"+name+">")
	}
	return anyKey.ReplaceAllString(call, "<new>")
}

var anyKey = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// Restart is a boot of the host: /run is empty, and the boot id is another.
func (c *Subject) Restart() error { return errors.Join(c.world.clearRun(), c.reboot()) }

// End ends what the call has begun.
func (c *Subject) End() error {
	var err error
	if c.end != nil && c.world != nil {
		err = c.end(c.world)
	}
	return errors.Join(err, c.Release())
}

// Learn looks at the SRs after the call, and that the one it is about was left steady.
func (c *Subject) Learn(explore.Ending) (err error) {
	if c.after, err = c.world.look(); err == nil {
		err = steady(c.before.SRs["sr"], c.after.SRs["sr"])
	}
	if err == nil && c.reached != nil {
		err = c.reached(c.world)
	}
	return err
}

// Alone says that the call counts shared blocks.
func (c *Subject) Alone() bool { return c.sharing }

// Refused says that the call is refused undisturbed.
func (c *Subject) Refused() bool { return c.refused != "" }

// Spoil does damage to what no call may damage, or to what the call has just done.
func (c *Subject) Spoil(i int) (string, error) {
	w := c.world
	bystander := w.data("bystander")
	if c.method() == "SR.destroy" {
		bystander = "" // there is none any more
	}
	switch {
	case i == 0 && bystander != "":
		f, err := os.OpenFile(bystander, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		_, err = f.WriteAt([]byte{'?'}, 65536)
		return "one byte of another disk was changed", errors.Join(err, f.Close())
	case i == 1 && bystander != "":
		return "another disk's record was removed", os.Remove(bystander + ".inf")
	case i <= 2 && bystander == "" || i == 2:
		return "a foreign file was removed", os.Remove(filepath.Join(w.path("sr"), "notes.txt"))
	case i == 3 && bystander != "":
		return "a file was left in staging under another disk's lock", os.WriteFile(w.control("staging/"+string(w.keys["bystander"])+".other"), nil, 0o600)
	case i == 4 && bystander != "":
		return "others may read a disk", os.Chmod(bystander, 0o644)
	case i == 5:
		for name := range c.after.SRs["sr"].Kept {
			return "what tells of changed blocks was removed", os.Remove(w.control("cbt/" + string(w.keys[name])))
		}
	}
	return "", nil
}

// verdict collects what is wrong.
type verdict struct {
	c        *Subject
	wrong    []string
	unleased bool // leases do not count
}

// look reads the state, as far as it counts.
func (v *verdict) look() (*state, error) {
	s, err := v.c.world.look()
	if err == nil && v.unleased {
		s = s.unleased()
	}
	return s, err
}

// unleased is the state without leases.
func (s *state) unleased() *state {
	without := &state{SRs: map[string]*repository{}, Host: s.Host}
	for dir, r := range s.SRs {
		copied := *r
		copied.Left.Leases = nil
		without.SRs[dir] = &copied
	}
	return without
}

func (v *verdict) add(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// outcome is what the caller was told.
type outcome int

const (
	untold  outcome = iota // nothing, or nothing that it could understand for good reason
	done                   // the call has succeeded
	refused                // it has not
)

// Judge compares the SRs with those before the call and after it: they must be the one or the other.
func (c *Subject) Judge(e explore.Ending) []string {
	v := &verdict{c: c}
	told := v.listen(e)
	allowed := []*state{c.before, c.after}
	refusable := 1 // of them
	if c.between != nil {
		allowed = slices.Insert(allowed, 1, c.between(c.before, c.after))
		if c.stands {
			refusable = 2
		}
	}
	if e.Fault != nil && slices.Contains([]string{"ENOSPC", "EDQUOT", "EROFS"}, e.Fault.Errno) {
		// On a filesystem that no other host can see, a lease that cannot be written is no
		// obstacle: the host's note counts.
		v.unleased = true
		for i, s := range allowed {
			allowed[i] = s.unleased()
		}
	}
	switch {
	case told == done:
		allowed = allowed[len(allowed)-1:]
	case told == refused && (e.Fault == nil || !e.Fault.Sticky) && !e.Cut:
		// With a power cut on top of a failed call, what was taken back may be back.
		allowed = allowed[:refusable]
	}
	if !e.Cut && !e.Recovered {
		v.unrecovered(e, told, allowed)
	}
	v.recovered(e, allowed)
	if len(v.wrong) == 0 {
		v.repeat(e)
	}
	return v.wrong
}

// listen reads what the call answered.
func (v *verdict) listen(e explore.Ending) outcome {
	r := e.Result
	if !e.Ended || !r.Status.Exited() {
		return untold
	}
	if e.Fault != nil && e.Fault.Stop != nil && e.Fault.Stop.Kind == trace.Output {
		return untold
	}
	err := v.judgeAnswer(r)
	var refusal *smapi.Failure
	switch {
	case err == nil && v.c.refused != "":
		v.add("it was answered, and not refused: what kept it from that was passed by")
		return done
	case err == nil:
		return done
	case errors.As(err, &refusal):
		v.cause(e, refusal)
		return refused
	}
	v.add("%v", err)
	return untold
}

// classes are the interface's codes for what calls were made to fail with: that, and
// nothing else, is told.
var classes = map[string]string{"EIO": "200", "ENOMEM": "202", "EACCES": "202", "EMFILE": "202", "ENOSPC": "44", "EDQUOT": "44", "EROFS": "47"}

// cause judges what a refusal says that it is for.
func (v *verdict) cause(e explore.Ending, r *smapi.Failure) {
	want := v.c.refused
	if want != "" && r.IsNamed(want) {
		return
	}
	if e.Fault != nil && e.Fault.Stop != nil {
		if want = classes[e.Fault.Errno]; want == "" || r.IsNamed(want) {
			return
		}
		if e.Fault.Stop.Name == "ioctl LOOP_CTL_GET_FREE" && e.Fault.Errno == "ENOSPC" && r.IsNamed("202") {
			return // there are no more device numbers: no filesystem is full
		}
	} else if want == "" {
		return // it was not disturbed
	}
	v.add("it was refused for another cause than it had, %s: %v", want, r)
}

func (v *verdict) judgeAnswer(r trace.Result) error {
	if r.Succeeded() {
		return rig.Succeeded(v.c.method(), r.Stdout, r.Stderr)
	}
	refusal, err := smapi.ParseFailure(r.Stdout)
	if err != nil {
		return fmt.Errorf("it ended with exit status %d and the answer %.300q, and on standard error %.2000q: %w", r.Status.ExitStatus(), r.Stdout, r.Stderr, err)
	}
	return fmt.Errorf("%s: %w", v.c.method(), refusal)
}

// unrecovered judges what the toolstack meets before anything is recovered.
func (v *verdict) unrecovered(e explore.Ending, told outcome, allowed []*state) {
	c := v.c
	now, err := v.look()
	if err != nil {
		v.add("what was left cannot be looked at: %v", err)
		return
	}
	if told == untold || told == done && c.again == gone && e.Fault != nil {
		// It was ended in the middle, or what is left of a destroyed SR goes at the next
		// opportunity. Volumes are whole all the same.
		if !slices.ContainsFunc(allowed, func(s *state) bool { return visible(s, now) }) {
			v.add("before recovery, volumes are neither as before nor as after: %s", nearest(allowed, now, volumesOf))
		}
		return
	}
	if c.healing {
		return // it may have mended some of it
	}
	v.forgive(e, told, now)
	same := func(s *state) bool {
		return equal(durable(s), durable(now)) && equal(s.Host, now.Host) && c.given(s, now)
	}
	switch {
	case c.stands, e.Fault != nil && e.Fault.Sticky:
		// What it could not take back or finish, recovery does.
		same = func(s *state) bool { return visible(s, now) }
	case told == done && c.method() == "Datapath.detach":
		// It never fails; a device that it could not unbind goes later.
		same = func(s *state) bool { return equal(durable(s), durable(now)) }
	}
	if !slices.ContainsFunc(allowed, same) {
		v.add("it was %s, but left, before recovery: %s", map[outcome]string{done: "answered", refused: "refused"}[told], nearest(allowed, now, func(s *state) any { return s }))
	}
}

// forgive overlooks what the call could not remove because that very call failed, or
// all did; and, after its commit, what it stopped removing then: recovery does.
func (v *verdict) forgive(e explore.Ending, told outcome, now *state) {
	if e.Fault == nil || e.Fault.Stop == nil {
		return
	}
	for dir, r := range now.SRs {
		old := v.c.before.SRs[dir]
		about := func(name string) bool {
			if e.Fault.Sticky || told == done {
				return true
			}
			for _, path := range e.Fault.Stop.Paths {
				if strings.HasPrefix(e.Fault.Stop.Name, "unlink") && v.c.world.newNames().in(filepath.Base(path)) == name {
					return true
				}
			}
			return false
		}
		after := v.c.after.SRs[dir]
		keep := func(have, before, after []string) []string {
			return slices.DeleteFunc(have, func(name string) bool {
				return (told == done || !slices.Contains(before, name)) && !slices.Contains(after, name) && about(name)
			})
		}
		r.Left.Staging = keep(r.Left.Staging, old.Left.Staging, after.Left.Staging)
		r.Left.Locks = keep(r.Left.Locks, old.Left.Locks, after.Left.Locks)
		r.Orphans = keep(r.Orphans, old.Orphans, after.Orphans)
		if r.Left.CBT = keep(r.Left.CBT, old.Left.CBT, after.Left.CBT); told == done {
			r.Kept = after.Kept // or more: what could not be given back then is later
		}
		for name := range r.Left.Leases {
			// A lease that could not be given back is an entry of this host, which its note
			// overrules, until SR.attach.
			if after.Left.Leases[name] == nil && (told == done || old.Left.Leases[name] == nil && about(name)) {
				delete(r.Left.Leases, name)
			}
		}
		if len(r.Left.Staging) == 0 {
			r.Left.Staging = nil
		}
		if len(r.Left.Locks) == 0 {
			r.Left.Locks = nil
		}
		if len(r.Left.CBT) == 0 {
			r.Left.CBT = nil
		}
		if len(r.Left.Leases) == 0 {
			r.Left.Leases = nil
		}
		if len(r.Orphans) == 0 {
			r.Orphans = nil
		}
	}
}

// volumesOf is what the toolstack sees of a state.
func volumesOf(s *state) any {
	seen := map[string]any{}
	for dir, r := range s.SRs {
		seen[dir] = map[string]any{"Marker": r.Marker, "Volumes": r.Volumes, "Foreign": r.Foreign, "Answers": r.Answers, "Wrong": r.Wrong}
	}
	return seen
}

// visible says whether the volumes of two states are the same; an SR that is being
// erased has none.
func visible(want, now *state) bool {
	if equal(volumesOf(want), volumesOf(now)) {
		return true
	}
	for dir, r := range now.SRs {
		w := want.SRs[dir]
		if !equal(r.Foreign, w.Foreign) || !equal(r.Marker, w.Marker) || len(r.Wrong) > 0 {
			return false
		}
		if r.Tombstone {
			continue // its volumes go one by one
		}
		if !equal(r.Volumes, w.Volumes) || !equal(r.Answers, w.Answers) {
			return false
		}
	}
	return true
}

// durable is what recovery must make right: all but what the host knows, and what is
// kept of destroyed data.
func durable(s *state) any {
	seen := map[string]any{}
	for dir, r := range s.SRs {
		r := *r
		r.Kept = nil
		seen[dir] = r
	}
	return seen
}

// given says whether what is kept of destroyed data is as in one of the states. In that
// before the call it may be as after it: that harms nobody.
func (c *Subject) given(want, now *state) bool {
	after, should := c.after.SRs["sr"].Kept, want.SRs["sr"].Kept
	for name, k := range now.SRs["sr"].Kept {
		ahead := !equal(should, after) && equal(k, after[name])
		if !equal(k, should[name]) && !ahead {
			return false
		}
	}
	return true
}

// recovered judges what is left after SR.attach.
func (v *verdict) recovered(e explore.Ending, allowed []*state) {
	c, w := v.c, v.c.world
	_, err := os.Stat(filepath.Join(w.path(c.home), "sr.json"))
	there := err == nil
	err = w.attach(c.home)
	var refusal *smapi.Failure
	switch {
	case there && err != nil:
		v.add("the SR cannot be attached: %v", err)
		return
	case !there && !errors.As(err, &refusal):
		v.add("SR.attach of an SR that is not there: %v", err)
		return
	}
	now, err := v.look()
	if err != nil {
		v.add("what was left cannot be looked at: %v", err)
		return
	}
	if c.healing {
		allowed = []*state{c.after}
	}
	right := func(s *state) bool {
		if !c.given(s, now) {
			return false
		}
		if !e.Cut && !e.Recovered {
			return equal(durable(s), durable(now))
		}
		// After a restart nobody has anything.
		r := now.SRs[c.home]
		return equal(volumesOf(s), volumesOf(now)) && r.Left.but(s.SRs[c.home].received()).empty() && len(r.Orphans) == 0
	}
	if !slices.ContainsFunc(allowed, right) {
		v.add("after recovery: %s", nearest(allowed, now, func(s *state) any { return []any{durable(s), s.SRs["sr"].Kept} }))
		return
	}
	v.wrong = append(v.wrong, w.untrue(now.SRs["sr"])...)
	if there {
		v.agree(now)
	}
}

// agree compares the plugin's own view with what was seen.
func (v *verdict) agree(now *state) {
	c, w := v.c, v.c.world
	var listed []smapi.Volume
	if err := w.call(smapi.SRLs{SR: w.handle(c.home)}, &listed); err != nil {
		v.add("%v", err)
		return
	}
	r := now.SRs[c.home]
	if len(listed) != len(r.Volumes) {
		v.add("SR.ls lists %d volumes, there are %d", len(listed), len(r.Volumes))
	}
	names := w.newNames()
	for _, l := range listed {
		name := names.of(sr.Key(l.Key))
		if have := r.Volumes[name]; c.home == "sr" && !strings.HasPrefix(name, "new") && (l.CBTEnabled != have.flag("cbt") || (l.VolumeType == smapi.CBTMetadata) != have.destroyed()) {
			v.add("SR.ls tells of %s the type %q and changed block tracking %v; its record is %s", name, l.VolumeType, l.CBTEnabled, text(have.Record))
		}
	}
	s, err := sr.Open(w.handle(c.home), dirfs.Unlocked)
	if err != nil {
		v.add("%v", err)
		return
	}
	defer s.Close()
	problems, err := check.Volumes(s)
	if err != nil {
		v.add("srctl check: %v", err)
	}
	for _, p := range problems {
		if strings.HasSuffix(p.Name, sr.NonpersistentSuffix) {
			continue // of a domain that has it
		}
		v.add("srctl check finds %s: %s", p.Name, p.Text)
	}
}

// nearest tells how a state differs from that allowed one which it is most like.
func nearest(allowed []*state, now *state, part func(*state) any) string {
	best := ""
	for _, s := range allowed {
		if d := difference(part(s), part(now)); best == "" || len(d) < len(best) {
			best = d
		}
	}
	return best
}

// repeat makes the call again, and then gives back what it has.
func (v *verdict) repeat(e explore.Ending) {
	c, w := v.c, v.c.world
	restarted := e.Cut || e.Recovered
	if restarted && c.refused != "" {
		return // what kept it from being made may be over: a domain is, an attribute was not on the disk yet
	}
	switch {
	case restarted && c.device:
		v.session()
	case c.device && e.Fault != nil && (e.Fault.N+len(e.Fault.Mode))%2 == 0:
		// The toolstack may as well give up, and take the disk back at once. Every other
		// fault: with kill and term, every call has both.
		v.giveBack()
		v.session()
	default:
		if restarted && c.home == "other" {
			if err := w.attach("sr"); err != nil {
				v.add("%v", err)
			}
		}
		first, err := v.look()
		if err == nil {
			err = c.make(w)
		}
		if err == nil && c.reached != nil {
			err = c.reached(w)
		}
		var refusal *smapi.Failure
		if c.again == over && equal(volumesOf(first), volumesOf(c.after)) && errors.As(err, &refusal) && refusal.IsNamed(smapi.VolumeDoesNotExist) {
			err = nil
		}
		if errors.As(err, &refusal) && c.refused != "" && refusal.IsNamed(c.refused) {
			err = nil
		}
		if c.again == gone && errors.As(err, &refusal) && (refusal.IsNamed(smapi.SRNotAttached) || refusal.IsNamed(smapi.SRDoesNotExist)) {
			err = nil
		}
		if err != nil {
			v.add("the call cannot be made again: %v", err)
			return
		}
		now, err := v.look()
		if err != nil {
			v.add("after the second call: %v", err)
			return
		}
		if c.again == same || c.again == over {
			after := c.after
			if v.unleased {
				after = after.unleased()
			}
			want, have := any(after), any(now)
			if restarted || c.healing || c.detached {
				want, have = durable(after), durable(now) // SR.attach of the recovery has attached it
			}
			if !equal(want, have) || !c.given(c.after, now) {
				v.add("after the second call: %s", difference(want, have)+" "+difference(c.after.SRs["sr"].Kept, now.SRs["sr"].Kept))
			}
		}
	}
	if c.device {
		v.giveBack()
	}
	if c.method() == "SR.destroy" {
		if err := w.call(smapi.SRDetach{SR: w.handle("sr")}, nil); err != nil {
			v.add("a destroyed SR cannot be detached: %v", err)
		}
	}
}

// session gives the disk to a domain, as at the start of a guest.
func (v *verdict) session() {
	if err := v.c.world.plug("main", "9", attach, activate); err != nil {
		v.add("after a restart the disk cannot be used: %v", err)
		return
	}
	for _, method := range []string{"Datapath.deactivate", "Datapath.detach"} {
		if err := v.c.world.call(rig.OfDatapath(method, v.c.world.uri("main"), "9"), nil); err != nil {
			v.add("%v", err)
		}
	}
}

// giveBack takes the disk from every domain. Nothing is left then.
func (v *verdict) giveBack() {
	w := v.c.world
	for _, domain := range []string{"1", "2", "0", "u0_a"} {
		for _, method := range []string{"Datapath.deactivate", "Datapath.detach"} {
			if err := w.call(rig.OfDatapath(method, w.uri("main"), domain), nil); err != nil {
				v.add("%v", err)
			}
		}
	}
	if err := w.call(smapi.DatapathClose{URI: w.uri("main")}, nil); err != nil {
		v.add("%v", err)
	}
	now, err := w.look()
	switch {
	case err != nil:
		v.add("after the disk was given back: %v", err)
	case len(now.Host.Notes)+len(now.Host.Devices) > 0 || !now.SRs["sr"].Left.empty():
		v.add("after the disk was given back, there is still: %s %s", text(now.Host), text(now.SRs["sr"].Left))
	}
}
