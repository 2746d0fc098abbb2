package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"reflinksr/scripts"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/testdata/plugins"
)

var update = flag.Bool("update", false, "write into testdata/plugins which scenarios turn red")
var wrongPart = flag.String("wrong.part", "1/1", "which part of the wrong plugins: the `K/N`-th of N")

// Each deliberately wrong plugin turns exactly the scenarios red that its file
// names, and the right one that they are made of turns none red. A scenario can see
// a plugin only by calling it, so those that never make the wrong call need not run.
func TestWrongPlugins(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices for scenarios")
	tests.Long(t)
	const kind = "xfs"
	if err := scratch.Available(kind); err != nil {
		tests.Skip(t, err)
	}
	dir := t.TempDir()
	simple, err := plugins.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	conf := map[string]string{"location": "$SR_PATH"}
	// try runs the scenarios that match through a plugin.
	try := func(t *testing.T, front []txtar.File, match string) (all []scripts.Result) {
		volume, datapath, err := plugins.Install(simple, filepath.Join(t.TempDir(), "plugin"), front)
		if err != nil {
			t.Fatal(err)
		}
		o := options{kinds: kind, match: regexp.MustCompile(match), jobs: 4, timeout: 30 * time.Second, limit: 2 * time.Minute}
		err = o.try(context.Background(), target{volume, []string{datapath}, conf}, func(r scripts.Result) { all = append(all, r) })
		if err != nil {
			t.Fatal(err)
		}
		return all
	}

	// The right plugin, with a script in front of every call that notes who makes it: the
	// kit sees the calls that it makes, not those of the shell scripts in a scenario.
	notes := filepath.Join(dir, "notes")
	var front []txtar.File
	installed, datapath, err := plugins.Install(simple, filepath.Join(dir, "right"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{installed + "/[A-Z]*", datapath + "/loop+simple/[A-Z]*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			front = append(front, txtar.File{Name: filepath.Base(path), Data: []byte("#!/bin/sh\n" +
				"if \"${0%/*}/.right/${0##*/}\" \"$@\"; then was=answered; else was=refused; fi\n" +
				"echo \"${WORK##*/script-}:${0##*/} $was\" >>" + notes + "\n" +
				"test $was = answered\n")})
		}
	}
	makes := map[string][]string{} // the scenarios that make a call
	note := func(call, scenario string) {
		method, _, _ := strings.Cut(call, " ")
		for _, call := range []string{method, call} {
			if scenario != "" && !slices.Contains(makes[call], scenario) {
				makes[call] = append(makes[call], scenario)
			}
		}
	}
	// This machine may lack what a scenario needs: a plugin cannot be seen by it then.
	missed := map[string]string{} // the scenarios, and why
	lacking := func(r scripts.Result) {
		if !strings.HasSuffix(r.Why, " is not offered") {
			missed[r.Name] = r.Why
		}
	}
	passed := 0
	for _, r := range try(t, front, "") {
		switch r.Verdict {
		case scripts.Failed:
			t.Errorf("the right plugin: %s\n%s", r.Name, r.Failure)
		case scripts.Passed:
			passed++
		case scripts.Skipped:
			lacking(r)
		}
		for _, c := range r.Calls {
			note(c.Method+map[bool]string{true: " answered", false: " refused"}[c.Outcome == scripts.Works], r.Name)
		}
	}
	if passed < 60 {
		t.Errorf("only %d scenarios passed through the right plugin: are they skipped?", passed)
	}
	noted, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(noted)) {
		scenario, call, _ := strings.Cut(strings.TrimSpace(line), ":")
		note(call, scenario)
	}

	// touching are the scenarios that make one of the calls.
	touching := func(t *testing.T, calls ...string) string {
		var touched []string
		for _, call := range calls {
			touched = append(touched, makes[call]...)
		}
		slices.Sort(touched)
		if len(touched) == 0 {
			t.Fatalf("no scenario calls %q", calls)
		}
		return "^(" + strings.Join(slices.Compact(touched), "|") + ")$"
	}
	names := plugins.Names()
	if len(names) < 15 {
		t.Errorf("there are %d wrong plugins, want at least 15", len(names))
	}
	var part, parts int
	if _, err := fmt.Sscanf(*wrongPart, "%d/%d", &part, &parts); err != nil || part < 1 || part > parts {
		t.Fatalf("-wrong.part is %q, it must be K/N with K from 1 to N", *wrongPart)
	}
	for i, name := range names {
		if i%parts != part-1 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, err := plugins.Read(name)
			if err != nil {
				t.Fatal(err)
			}
			var red, want, without []string
			for _, name := range wrong.Red {
				if why, ok := missed[name]; ok {
					without = append(without, name+": "+why)
				} else {
					want = append(want, name)
				}
			}
			for _, r := range try(t, wrong.Front, touching(t, wrong.Calls...)) {
				if r.Verdict == scripts.Failed && !slices.Contains(wrong.Maybe, r.Name) {
					red = append(red, r.Name)
				}
			}
			slices.Sort(red)
			if len(without) > 0 {
				t.Logf("skipped here: %s", strings.Join(without, "; "))
			}
			if len(without) > 0 && len(want) == 0 && len(red) == 0 {
				tests.Skip(t, "all that sees it is skipped here")
			}
			if *update {
				if len(missed) > 0 {
					t.Fatalf("not all scenarios can be run here: %v", missed)
				}
				if err := plugins.Expect(filepath.Join("..", "..", "testdata", "plugins"), name, red); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !slices.Equal(red, want) {
				t.Errorf("%s\nturned red: %q\nwant:       %q", wrong.About, red, want)
			}
			if len(red) == 0 {
				t.Error("no scenario sees it")
			}
		})
	}

	// The right plugin without one of the calls that it need not have is right as well,
	// whether there is no such executable or one that says so.
	basic := strings.Fields("Plugin.Query SR.create SR.attach SR.detach SR.ls Volume.create Volume.destroy Volume.stat " +
		"Datapath.attach Datapath.activate Datapath.deactivate Datapath.detach")
	i := len(names)
	for _, f := range front {
		if slices.Contains(basic, f.Name) {
			continue
		}
		for _, how := range []struct{ name, script string }{
			{"absent", ""},
			{"unimplemented", "#!/bin/sh\ncat >/dev/null\necho '{\"code\":\"SR_BACKEND_FAILURE\",\"params\":[\"Unimplemented\",\"" + f.Name + "\"],\"backtrace\":{\"error\":\"\",\"files\":[],\"lines\":[]}}'\nexit 1\n"},
		} {
			if i++; i%parts != part-1 {
				continue
			}
			t.Run(f.Name+" is "+how.name, func(t *testing.T) {
				t.Parallel()
				for _, r := range try(t, []txtar.File{{Name: f.Name, Data: []byte(how.script)}}, touching(t, f.Name)) {
					if r.Verdict == scripts.Failed {
						t.Errorf("%s\n%s", r.Name, r.Failure)
					}
				}
			})
		}
	}
}
