package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordingUsage(t *testing.T) {
	verbs := map[string]func(args []string, out, errs io.Writer) int{
		"record": func(args []string, out, errs io.Writer) int { return record(args, nil, out, errs) },
		"wrap":   wrap, "unwrap": unwrap, "replay": replay, "chart": chart,
	}
	for verb, run := range verbs {
		for _, args := range [][]string{nil, {"-x"}, {"-n", "0", "file"}, {"--"}} {
			var out, errs bytes.Buffer
			if status := run(args, &out, &errs); status != 2 || !strings.HasPrefix(errs.String(), "usage: srtest "+verb) || out.Len() > 0 {
				t.Errorf("%s %q: exit %d, %q, %q", verb, args, status, out.String(), errs.String())
			}
		}
	}
}

// What is recorded can be replayed and drawn, damaged lines are told.
func TestRecordReplayChart(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "SR.ls")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho '[]'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "night.jsonl")
	var out, errs bytes.Buffer
	if status := record([]string{"-log", log, "--", program, "--json"}, strings.NewReader(`{"dbg":"","sr":"h"}`), &out, &errs); status != 0 || out.String() != "[]\n" {
		t.Fatalf("exit %d, %q, %q", status, out.String(), errs.String())
	}
	if status := record([]string{"-log", log, program + "none"}, nil, &out, &errs); status != 127 {
		t.Errorf("exit %d", status)
	}
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "damaged\n")
	f.Close()
	out.Reset()
	errs.Reset()
	if status := replay([]string{log, "-name", "quiet"}, &out, &errs); status != 0 || !strings.HasPrefix(out.String(), "# quiet: ") || !strings.Contains(out.String(), `call SR.ls '{"sr":"$SR"}'`) || !strings.Contains(errs.String(), "line 2 ") {
		t.Errorf("exit %d, %s, %s", status, out.String(), errs.String())
	}
	out.Reset()
	if status := chart([]string{"-n", "3", log}, &out, &errs); status != 0 || !strings.Contains(out.String(), "1 SR.ls sr=h") {
		t.Errorf("exit %d, %s", status, out.String())
	}
	svg := filepath.Join(dir, "night.svg")
	if status := chart([]string{log, "-svg", svg}, &out, &errs); status != 0 {
		t.Errorf("exit %d", status)
	}
	if data, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(data, []byte("<svg ")) {
		t.Errorf("%v: %s", err, data)
	}
	if err := os.WriteFile(log, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := replay([]string{log}, &out, &errs); status != 1 {
		t.Errorf("exit %d", status)
	}
}

// A plugin that is recorded passes as before, is afterwards what it was, and what was
// recorded is a scenario that it passes as well.
func TestWrappedPlugin(t *testing.T) {
	dir := installed(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	srtest := func(args ...string) string {
		t.Helper()
		c := exec.Command(self, args...)
		c.Args[0], c.Dir = "srtest", dir
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil {
			t.Fatalf("srtest %q: %v\n%s%s", args, err, out, errs.String())
		}
		return string(out)
	}
	look := func() string {
		out, err := exec.Command("find", filepath.Join(dir, "right"), "-printf", "%P %y %m %i %l\n").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	before := look()
	both := []string{"right/volume/org.example.simple", "right/datapath/loop+simple"}
	for _, plugin := range both {
		srtest("wrap", "-log", "calls.jsonl", plugin)
	}
	run := []string{"run", "-volume", both[0], "-config", "simple.json", "-fs", "xfs"}
	srtest(append(run, "-run", "^volume_set_is_kept$")...)
	for _, plugin := range both {
		srtest("unwrap", plugin)
	}
	if after := look(); after != before {
		t.Errorf("the plugin was\n%s\nand is\n%s", before, after)
	}
	draft := srtest("replay", "-name", "again", "calls.jsonl")
	if err := os.WriteFile(filepath.Join(dir, "again.txtar"), []byte(draft), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := srtest(append(run, "again.txtar")...); !strings.Contains(out, "ok 1 - xfs/again\n") || strings.Count(draft, "\ncall Volume.set ") < 2 {
		t.Errorf("%s\n%s", draft, out)
	}
}
