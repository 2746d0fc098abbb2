package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/scripts/tests"
)

// A plugin can be named by its own directory, or by the one above, whatever a scenario
// does with it: those that call it from a script find it as well.
func TestEitherDirectoryNamesAPlugin(t *testing.T) {
	dir := installed(t)
	root := filepath.Join(dir, "right")
	// Another datapath plugin, in a place of its own.
	other := filepath.Join(dir, "other", "tapdisk")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "Datapath.attach"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "linked")
	if err := os.Symlink(filepath.Join(root, "datapath"), link); err != nil {
		t.Fatal(err)
	}
	scenarios := []string{"attach_twice_gives_one_device", "volume_is_destroyed_or_attached", "device_closing_while_attached_again", "devices_for_many_at_once", "writer_is_one_of_many_at_once"}
	scenarios = tests.Due(scenarios, 3)
	all := fmt.Sprintf("%d passed, 0 failed, 0 skipped", len(scenarios))
	reported := strings.Replace(all, "passed", "scenarios passed", 1)
	for name, args := range map[string][]string{
		"above":       {"-volume", root + "/volume", "-datapath", root + "/datapath"},
		"itself":      {"-volume", root + "/volume/org.example.simple/", "-datapath", root + "/datapath/loop+simple"},
		"beside":      {"-volume", root + "/volume"},
		"a link":      {"-volume", root + "/volume", "-datapath", link},
		"two above":   {"-volume", root + "/volume", "-datapath", filepath.Dir(other), "-datapath", root + "/datapath"},
		"two itself":  {"-volume", root + "/volume", "-datapath", other, "-datapath", root + "/datapath/loop+simple"},
		"one of each": {"-volume", root + "/volume", "-datapath", filepath.Dir(other), "-datapath", root + "/datapath/loop+simple/"},
	} {
		for _, verb := range []string{"run", "report"} {
			if verb == "report" && name != "itself" {
				continue
			}
			var out, errs bytes.Buffer
			args := append([]string{verb, "-config", filepath.Join(dir, "simple.json"), "-fs", "xfs", "-run", "^(" + strings.Join(scenarios, "|") + ")$"}, args...)
			if status := run(args, &out, &errs); status != 0 || !strings.Contains(out.String(), all) && !strings.Contains(out.String(), reported) {
				t.Errorf("%s, %s: exit %d\n%s%s", verb, name, status, out.String(), errs.String())
			}
		}
	}
	// With two volume plugins the directory above does not say which.
	if err := os.Symlink(filepath.Join(root, "volume", "org.example.simple"), filepath.Join(root, "volume", "org.example.other")); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	if status := run([]string{"run", "-volume", root + "/volume"}, io.Discard, &errs); status == 0 || !strings.Contains(errs.String(), "several plugins") || !strings.Contains(errs.String(), "org.example.other, org.example.simple") {
		t.Errorf("exit %d, %s", status, errs.String())
	}
}

// So can a plugin that is wrapped, or called by record.
func TestEitherDirectoryIsRecorded(t *testing.T) {
	root := t.TempDir()
	plugin := filepath.Join(root, "datapath", "loop+x")
	if err := os.MkdirAll(plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(plugin, "Datapath.close"), []byte("#!/bin/sh\necho null\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	srtest := filepath.Join(t.TempDir(), "srtest")
	if out, err := exec.Command("go", "build", "-o", srtest, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	log := filepath.Join(root, "log")
	for _, dir := range []string{filepath.Dir(plugin), plugin} {
		for _, args := range [][]string{
			{"wrap", "-log", log, dir}, {"unwrap", dir}, {"record", "-log", log, "--", filepath.Join(dir, "Datapath.close"), "dbg", "u"},
		} {
			if out, err := exec.Command(srtest, args...).CombinedOutput(); err != nil {
				t.Errorf("%q: %v: %s", args, err, out)
			}
		}
	}
	recorded, _ := os.ReadFile(log)
	if n := strings.Count(string(recorded), `"plugin":"loop+x"`); n != 2 {
		t.Errorf("%d calls of loop+x are recorded, want 2: %s", n, recorded)
	}
}
