package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/cmd/internal/pool"
	"reflinksr/cmd/srlab/internal/machine"
	"reflinksr/scripts"
)

// scenarios are what the lab plays: NAME/*.txtar are those of srlab NAME.
//
//go:embed xen nfs ocfs2 kernels
var scenarios embed.FS

// lab plays scenarios on machines.
type lab struct {
	cache   string
	plugin  string
	srctl   string
	fs      string // of scenarios that know several; "" for each of them
	verbose bool
	part    int // of parts, from 1: every parts-th scenario is played
	parts   int
	seen    int // scenarios until now, played or not
	played  int
	sockets string // directory, whose path is short
	out     io.Writer
	start   time.Time
	lock    sync.Mutex
	images  *images
	ctx     context.Context
}

// tell shows what happens, and when, in seconds.
func (l *lab) tell(format string, args ...any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	fmt.Fprintf(l.out, "%6.1f  %s\n", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}

// stage is one scenario's.
type stage struct {
	*lab
	ts       *testscript.TestScript
	dir      string
	machines map[string]*machine.Machine
	booting  map[string]time.Time // since when, those that were not up yet
	cables   []*cable
	env      map[string]string
	known    scripts.Known
}

type stageKey struct{}

// verbs are what a scenario of the lab is written in.
func verbs() map[string]func(*testscript.TestScript, bool, []string) {
	table := map[string]func(*stage, bool, []string) error{
		"disk": (*stage).disk, "boot": (*stage).boot, "cut": (*stage).cut, "off": (*stage).off,
		"reset": (*stage).reset, "on": (*stage).on, "cable": (*stage).cable, "promise": (*stage).promise,
		"show": (*stage).show,
	}
	commands := map[string]func(*testscript.TestScript, bool, []string){}
	for name, run := range table {
		commands[name] = func(ts *testscript.TestScript, not bool, args []string) {
			s := ts.Value(stageKey{}).(*stage)
			s.ts = ts
			if not && name != "on" {
				ts.Fatalf("! does not go with %s", name)
			}
			if err := s.ctx.Err(); err != nil {
				ts.Fatalf("%v", context.Cause(s.ctx))
			}
			if err := run(s, not, args); err != nil {
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return commands
}

// play plays the scenarios of one kind, one after the other, and says which failed.
func (l *lab) play(kind string, match func(string) bool) (failed []string, err error) {
	entries, err := scenarios.ReadDir(kind)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "srlab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".txtar")
		if !match(name) {
			continue
		}
		data, err := scenarios.ReadFile(kind + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, e.Name())
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return nil, err
		}
		filesystems := []string{""}
		if strings.Contains(string(data), "$FS") {
			filesystems = []string{"xfs", "btrfs"}
			if l.fs != "" {
				filesystems = []string{l.fs}
			}
		}
		for _, fs := range filesystems {
			l.seen++
			if l.seen%l.parts != l.part%l.parts {
				continue
			}
			l.played++
			title := strings.TrimSuffix(kind+"/"+name+" on "+fs, " on ")
			l.tell("== %s", title)
			if !l.scenario(file, fs) {
				failed = append(failed, title)
			}
		}
	}
	return failed, nil
}

// scenario plays one, on a kind of filesystem if it names $FS.
func (l *lab) scenario(file, fs string) bool {
	var s *stage
	t := &outcome{lab: l}
	running := pool.New(1, true)
	err := running.Run(func(base testscript.T) error {
		t.T = base
		testscript.RunT(t, testscript.Params{
			Files:               []string{file},
			Cmds:                verbs(),
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				s = &stage{lab: l, dir: env.WorkDir, machines: map[string]*machine.Machine{}, booting: map[string]time.Time{}, env: map[string]string{}}
				env.Values[stageKey{}] = s
				env.Setenv("FS", fs)
				env.Defer(s.end)
				return nil
			},
		})
		return nil
	})
	running.Wait()
	if err != nil {
		l.tell("%v", err)
	}
	return err == nil && !t.failed
}

// outcome notes that a scenario failed.
type outcome struct {
	testscript.T
	lab    *lab
	failed bool
	root   *outcome
}

func (o *outcome) Run(name string, do func(testscript.T)) {
	o.T.Run(name, func(t testscript.T) { do(&outcome{T: t, lab: o.lab, root: o}) })
}

func (o *outcome) fail() {
	for ; o != nil; o = o.root {
		o.failed = true
	}
}

func (o *outcome) FailNow() { o.fail(); o.T.FailNow() }

func (o *outcome) Fatal(args ...any) {
	o.Log(args...)
	o.FailNow()
}

// Log gets the whole log of a scenario when it has ended.
func (o *outcome) Log(args ...any) {
	text := strings.TrimSpace(fmt.Sprint(args...))
	if o.lab.verbose {
		o.lab.tell("%s", text)
	}
	log, why, failed := strings.Cut("\n"+text, "\nFAIL: ")
	if !failed {
		return
	}
	// The last line that was begun is the one that failed.
	if at := strings.LastIndex(log, "\n> "); at >= 0 {
		line, _, _ := strings.Cut(log[at+len("\n> "):], "\n")
		o.lab.tell("%s%s", failedAt, line)
	}
	if !o.lab.verbose {
		o.lab.tell("FAIL: %s", why)
	}
}

// end switches everything off.
func (s *stage) end() {
	for _, m := range s.machines {
		m.Cut()
	}
}

// disk makes a file that machines can have as a disk.
func (s *stage) disk(_ bool, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: disk NAME SIZE [btrfs|xfs]")
	}
	size, err := scripts.ParseBytes(args[1])
	if err != nil {
		return err
	}
	file := s.diskFile(args[0])
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(file, size); err != nil || len(args) == 2 {
		return err
	}
	format := map[string][]string{
		"btrfs": {"mkfs.btrfs", "-q"},
		"xfs":   {"mkfs.xfs", "-q", "-m", "reflink=1,bigtime=0,inobtcount=0"}, // for the oldest kernel
	}[args[2]]
	if format == nil {
		return fmt.Errorf("no filesystem %q is made here", args[2])
	}
	c, err := s.images.root.Command(s.ctx, format[0], append(format[1:], file)...)
	if err != nil {
		return err
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", format[0], err, out)
	}
	return nil
}

func (s *stage) diskFile(name string) string { return filepath.Join(s.dir, name+".disk") }

// boot switches a machine on. The first line that it is told waits until it is up, so
// that several can boot at once.
func (s *stage) boot(_ bool, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: boot NAME xen|host|old|nfs|ocfs2 [disk=NAME]... [link=CABLE]... [memory=MIB]")
	}
	name, role := args[0], args[1]
	if s.machines[name] != nil {
		return fmt.Errorf("%s is on already", name)
	}
	if role == "old" {
		if err := s.addOld(s.ctx); err != nil {
			return err
		}
	}
	var addresses []string
	c := machine.Config{
		Name: name, Kernel: s.images.kernel, Ramdisk: s.images.ramdisks[role], Append: "srlab.role=" + role, Memory: 768,
		Dir: s.sockets,
	}
	if c.Ramdisk == "" || role == "guest" {
		return fmt.Errorf("there is no machine of role %q", role)
	}
	if role == "xen" {
		c.Hypervisor, c.Memory = s.images.hypervisor, 2048
	}
	if role == "old" {
		c.Kernel = s.images.old
	}
	for _, arg := range args[2:] {
		var err error
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "disk":
			c.Disks = append(c.Disks, machine.Disk{Name: value, File: s.diskFile(value)})
		case "link":
			var l machine.Link
			var address string
			l, address, err = s.plug(name, value)
			c.Links, addresses = append(c.Links, l), append(addresses, address)
			s.setenv(value+"_"+name, strings.TrimSuffix(address, "/24"))
		case "memory":
			c.Memory, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("%q is no property of a machine", arg)
		}
		if err != nil {
			return err
		}
	}
	host := uuid.NewSHA1(uuid.Nil, []byte(name)).String()
	s.setenv(name+"_host", host)
	c.Append += " srlab.host=" + host + " srlab.net=" + strings.Join(addresses, ",")
	if s.verbose {
		c.Console = func(line string) { s.tell("  %s| %s", name, line) }
	}
	m, err := machine.Start(s.ctx, s.images.root, c)
	if err != nil {
		return err
	}
	s.machines[name] = m
	s.booting[name] = time.Now()
	return nil
}

// up waits until a machine can be told what to do.
func (s *stage) up(m *machine.Machine) error {
	began, booting := s.booting[m.Name]
	if !booting {
		return nil
	}
	delete(s.booting, m.Name)
	if err := s.do(m, scripts.Request{Words: []string{"exec", "true"}}); err != nil {
		return fmt.Errorf("%s does not boot: %w\n%s", m.Name, err, m.Tail())
	}
	s.tell("%s is up after %.1f s", m.Name, time.Since(began).Seconds())
	return m.Stay()
}

// cut ends a machine as a power failure does: at once, or so long after it has begun to
// carry out a line over and over.
func (s *stage) cut(_ bool, args []string) error {
	if len(args) < 4 || args[1] != "after" {
		return s.each(args, func(m *machine.Machine) error { m.Cut(); return nil })
	}
	timeout, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	return s.each(args[:1], func(m *machine.Machine) error {
		var power sync.WaitGroup
		power.Go(func() { time.Sleep(timeout); m.Cut() })
		defer power.Wait()
		for n := 0; ; n++ {
			err := s.do(m, scripts.Request{Words: args[3:], Env: s.env, Known: s.known})
			if errors.As(err, new(*errGone)) {
				s.tell("%s is cut off, after %d times %s", m.Name, n, abbreviated(args[3:]))
				if n == 0 {
					return errors.New("it was not once done before: cut it off later")
				}
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

// errGone says that a machine does not answer any more.
type errGone struct{ error }

// off has machines switch themselves off, when what they have in memory is on their
// disks.
func (s *stage) off(_ bool, args []string) error {
	return s.each(args, func(m *machine.Machine) error {
		if err := s.up(m); err != nil {
			return err
		}
		m.Agent.Close()
		return m.Off(time.Minute)
	})
}

func (s *stage) each(names []string, do func(*machine.Machine) error) error {
	if len(names) == 0 {
		return errors.New("it wants names of machines")
	}
	for _, name := range names {
		m := s.machines[name]
		if m == nil {
			return fmt.Errorf("there is no machine %s", name)
		}
		if err := do(m); err != nil {
			return err
		}
		delete(s.machines, name)
		delete(s.booting, name)
	}
	return nil
}

// reset restarts a machine as its reset button does: what it had in memory is lost.
func (s *stage) reset(_ bool, args []string) error {
	if len(args) != 1 || s.machines[args[0]] == nil {
		return errors.New("usage: reset MACHINE")
	}
	if err := s.machines[args[0]].Reset(); err != nil {
		return err
	}
	s.booting[args[0]] = time.Now()
	return nil
}

// promise says what the lines that follow are about.
func (s *stage) promise(_ bool, args []string) error {
	s.tell("%s", strings.Join(args, " "))
	return nil
}

// show tells what the last line printed: figures that nothing can be expected of.
func (s *stage) show(_ bool, args []string) error {
	if len(args) != 0 {
		return errors.New("usage: show")
	}
	for line := range strings.Lines(s.ts.ReadFile("stdout")) {
		s.tell("          %s", strings.TrimSpace(line))
	}
	return nil
}

// on has a machine carry out a line of the scenario language.
func (s *stage) on(not bool, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: [!] on MACHINE VERB [ARG]")
	}
	m := s.machines[args[0]]
	if m == nil {
		return fmt.Errorf("there is no machine %s", args[0])
	}
	if err := s.up(m); err != nil {
		return err
	}
	r := scripts.Request{Words: args[1:], Not: not, Env: s.env, Known: s.known}
	began := time.Now()
	err := s.do(m, r)
	s.tell("%6.2f s  %s: %s", time.Since(began).Seconds(), args[0], abbreviated(args[1:]))
	return err
}

func abbreviated(words []string) string {
	text := strings.Join(words, " ")
	if len(text) > 110 {
		text = text[:107] + "..."
	}
	return text
}

// setenv sets a variable, here and on all machines. Names are in capitals.
func (s *stage) setenv(name, value string) {
	name = strings.ToUpper(name)
	s.env[name] = value
	s.ts.Setenv(name, value)
}

// do sends a line to a machine and takes over what came of it.
func (s *stage) do(m *machine.Machine, r scripts.Request) error {
	var reply scripts.Reply
	answered := make(chan error, 1)
	go func() {
		err := json.NewEncoder(m.Agent).Encode(r)
		if err == nil {
			err = json.NewDecoder(m.Agent).Decode(&reply)
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return &errGone{fmt.Errorf("%s is gone: %w\n%s", m.Name, err, m.Tail())}
		}
	case <-s.ctx.Done():
		return fmt.Errorf("%w\n%s", context.Cause(s.ctx), m.Tail())
	}
	for _, name := range slices.Sorted(maps.Keys(reply.Env)) {
		s.setenv(name, reply.Env[name])
	}
	if reply.Known.Sums != nil || reply.Known.Marks != nil {
		s.known = reply.Known
	}
	if reply.Told != "" {
		s.ts.Logf("%s", strings.TrimSpace(reply.Told))
	}
	if _, err := io.WriteString(s.ts.Stdout(), reply.Output); err != nil {
		return err
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}
