package calls

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// migration is a disk that moves as a subject: everything that takes part, but the other host. Whatever happens to it, each sector is what somebody
// has written there, and what was said to be durable is the last of that; what is left can be given back, moved again, and destroyed.
type migration struct {
	*Host
	way    string // "in", "out"
	world  *world
	before *state
	old    map[string][]byte // what main and layer hold before
}

// Migrations are the names of these subjects.
var migrations = []string{"migration/in", "migration/out"}

// Name is what the subject is called.
func (m *migration) Name() string { return "migration/" + m.way }

// Setup makes the world of every call, and a disk that is to be received.
func (m *migration) Setup() error {
	m.world, m.before, m.old = newWorld(m.Host), nil, map[string][]byte{}
	w := m.world
	if err := w.clearRun(); err != nil {
		return err
	}
	if err := w.make(); err != nil {
		return err
	}
	if err := errors.Join(w.create("layer"), w.write("main", 3<<20, 8192)); err != nil {
		return err
	}
	for _, name := range []string{"main", "layer"} {
		data, err := os.ReadFile(w.data(name))
		if err != nil {
			return err
		}
		m.old[name] = data
	}
	return w.save()
}

// Begin makes the host know what it knew; a disk that is to go is a guest's.
func (m *migration) Begin() (err error) {
	w := m.world
	if err := w.restore(); err != nil {
		return err
	}
	if m.before == nil {
		if m.before, err = w.look(); err != nil {
			return err
		}
	}
	if m.way == "out" {
		return w.plug("main", guestDomain, attach, activate)
	}
	return nil
}

// Command is everything that takes part.
func (m *migration) Command() (trace.Command, []string) {
	in, err := json.Marshal(route{Plugin: m.Plugin, SR: m.world.handle("sr"), Main: m.place("main"), Layer: m.place("layer"), Peer: filepath.Dir(m.Dir)})
	if err != nil {
		panic(err) // strings of our own
	}
	return trace.Command{Path: self, Args: []string{MigrateCommand, m.way}, Stdin: in}, m.world.scope()
}

func (m *migration) place(name string) place {
	return place{Key: m.world.key(name), URI: m.world.uri(name), Data: m.world.data(name)}
}

// Recovery is SR.attach.
func (m *migration) Recovery() trace.Command {
	return m.world.command(smapi.SRAttach{Configuration: m.world.configuration("sr")})
}

// Refused says that it is not.
func (m *migration) Refused() bool { return false }

// Alone says that it does not look at shared blocks.
func (m *migration) Alone() bool { return false }

// Learn learns nothing: what must be is the same for each run.
func (m *migration) Learn(explore.Ending) error { return nil }

// Plain replaces what differs from run to run.
func (m *migration) Plain(call string) string {
	return (&Subject{Host: m.Host, world: m.world}).Plain(call)
}

// Restart is a boot of the host.
func (m *migration) Restart() error { return errors.Join(m.world.clearRun(), m.reboot()) }

// End lets go of the filesystem.
func (m *migration) End() error {
	peers, err := filepath.Glob(filepath.Dir(m.Dir) + "/peer-*")
	for _, p := range peers {
		err = errors.Join(err, os.RemoveAll(p))
	}
	return errors.Join(err, m.Release())
}

// Spoil damages what was moved, or what was not.
func (m *migration) Spoil(i int) (string, error) {
	w := m.world
	overwrite := func(name string, at int64) error {
		f, err := os.OpenFile(w.data(name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("damaged"), at)
		return errors.Join(err, f.Close())
	}
	moved := map[string]string{"in": "layer", "out": "main"}[m.way]
	switch i {
	case 0:
		return "one sector of the disk that was moved was changed", overwrite(moved, 8192)
	case 1:
		return "a sector was written that nobody has written to", overwrite(moved, 2<<20+512<<10)
	case 2:
		return "another disk was changed", overwrite("bystander", 0)
	case 3:
		return "a file was left in staging", os.WriteFile(w.control("staging/"+w.key("bystander")+".other"), nil, 0o600)
	}
	return "", nil
}

// Judge demands what the type says.
func (m *migration) Judge(e explore.Ending) (wrong []string) {
	w := m.world
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if e.Fault == nil && !e.Cut && !e.Result.Succeeded() {
		add("it was not disturbed, and failed: %s", e.Result.Stderr)
	}
	if bytes.Contains(e.Said, []byte(saidDiffers)) {
		add("the guest's disk was given back, and %s", e.Result.Stderr)
	}
	if !e.Cut && !e.Recovered {
		m.giveBack(e, add)
	}
	if err := w.attach("sr"); err != nil {
		add("the SR cannot be attached: %v", err)
		return wrong
	}
	if m.way == "in" && w.has("main") {
		if bytes.Contains(e.Said, []byte(saidOver)) {
			add("the disks were composed, and both are there")
		}
		if err := w.call(compose(w, ""), nil); err != nil {
			add("the disks cannot be composed: %v", err)
			return wrong
		}
	}
	moved := map[string]string{"in": "layer", "out": "main"}[m.way]
	if err := m.judgeData(moved, e); err != nil {
		add("%v", err)
	}
	m.judgeRest(moved, e.Cut || e.Recovered, add)
	if len(wrong) > 0 {
		return wrong
	}
	m.goOn(moved, add)
	return wrong
}

func (w *world) has(name string) bool {
	_, err := os.Stat(w.data(name) + ".inf")
	return err == nil
}

// giveBack is what the toolstack does with what it knows of.
func (m *migration) giveBack(e explore.Ending, add func(string, ...any)) {
	w := m.world
	if _, id, found := strings.Cut(string(e.Said), saidMirror); found {
		id, _, _ := strings.Cut(id, "\n")
		var refusal *smapi.Failure
		if err := w.call(smapi.DataDestroy{Operation: smapi.Operation{MirrorV1: &id}}, nil); err != nil && !errors.As(err, &refusal) {
			add("%v", err)
		}
	}
	for name, domains := range map[string][]string{"main": {copyDomain, guestDomain}, "layer": {mirrorDomain, guestDomain}} {
		if !w.has(name) {
			continue
		}
		for _, domain := range domains {
			if err := w.call(rig.OfDatapath("Datapath.detach", w.uri(name), domain), nil); err != nil {
				add("%v", err)
			}
		}
	}
}

// judgeData looks at each sector of a disk.
func (m *migration) judgeData(name string, e explore.Ending) error {
	stages := map[string][][]step{"in": incoming, "out": outgoing}[m.way]
	over := bytes.Contains(e.Said, []byte(saidOver))
	got, err := os.ReadFile(m.world.data(name))
	if err != nil {
		return err
	}
	if len(got) != diskSize {
		return fmt.Errorf("the disk has %d bytes, want %d", len(got), diskSize)
	}
	for at := int64(0); at < diskSize; at += 512 {
		// What the two may hold; nil: nobody has written to the layer.
		main, layer := [][]byte{m.old["main"][at : at+512]}, [][]byte{nil}
		for i, stage := range stages {
			durable := over || bytes.Contains(e.Said, []byte(said(i)))
			for _, s := range stage {
				if at < s.offset || at >= s.offset+s.length {
					continue
				}
				of := &layer
				if s.main {
					of = &main
				}
				if durable {
					*of = nil
				}
				*of = append(*of, s.data()[at-s.offset:][:512])
			}
		}
		may := main
		if m.way == "in" {
			if may = slices.DeleteFunc(slices.Clone(layer), func(p []byte) bool { return p == nil }); len(may) < len(layer) {
				may = append(may, main...)
			}
		}
		if !slices.ContainsFunc(may, func(p []byte) bool { return bytes.Equal(p, got[at:at+512]) }) {
			return fmt.Errorf("the disk's byte %d begins with %.16q, want one of %.16q", at, got[at:], may)
		}
	}
	return nil
}

// judgeRest looks at everything else; a host that was restarted has attached the SR alone.
func (m *migration) judgeRest(moved string, restarted bool, add func(string, ...any)) {
	w := m.world
	now, err := w.look()
	if err != nil {
		add("what was left cannot be looked at: %v", err)
		return
	}
	r := now.SRs["sr"]
	for name, v := range m.before.SRs["sr"].Volumes {
		if name != "main" && name != "layer" && !equal(v, r.Volumes[name]) {
			add("%s is another: %s", name, difference(v, r.Volumes[name]))
		}
	}
	if r.Volumes[moved].Wrong != "" {
		add("%s: %s", moved, r.Volumes[moved].Wrong)
	}
	if !r.Left.empty() || len(r.Orphans) > 0 || len(r.Wrong) > 0 {
		add("left: %s", text([]any{r.Left, r.Orphans, r.Wrong}))
	}
	want := m.before.Host
	if restarted {
		want.Attached = []string{"sr"}
	}
	if !equal(now.Host, want) {
		add("the host knows: %s", difference(want, now.Host))
	}
	s, err := sr.Open(w.handle("sr"), dirfs.Unlocked)
	if err != nil {
		add("%v", err)
		return
	}
	defer s.Close()
	problems, err := check.Volumes(s)
	if err != nil {
		add("srctl check: %v", err)
	}
	for _, p := range problems {
		add("srctl check finds %s: %s", p.Name, p.Text)
	}
}

// goOn moves the disk again, if it is to go, and destroys it: nothing may be left of its migrations.
func (m *migration) goOn(moved string, add func(string, ...any)) {
	w := m.world
	if m.way == "out" {
		if err := w.plug("main", guestDomain, attach, activate); err != nil {
			add("%v", err)
			return
		}
		c, _ := m.Command()
		again := exec.Command(c.Path, c.Args...)
		again.Stdin = bytes.NewReader(c.Stdin)
		if out, err := again.CombinedOutput(); err != nil {
			add("moved again: %v: %s", err, out)
		}
	}
	if err := w.call(rig.OfVolume("Volume.destroy", w.handle("sr"), w.key(moved)), nil); err != nil {
		add("%v", err)
	}
	for _, name := range []string{"main", "layer"} {
		left, err := filepath.Glob(fmt.Sprintf("%s/nbd/%s.%s*", rundir.Path, w.uuids["sr"], w.key(name)))
		if err != nil || len(left) > 0 && !w.has(name) {
			add("left of a disk that is no more: %s, %v", left, err)
		}
	}
}
