package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/scripts"
	"reflinksr/scripts/scratch"
)

func TestMain(m *testing.M) {
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	program := func() { os.Exit(run(os.Args[1:], terminal{os.Stdout}, terminal{os.Stderr})) }
	if filepath.Base(os.Args[0]) == "srctl" {
		program()
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	testscript.Main(m, map[string]func(){"srctl": program})
}

// The operator's sessions, on btrfs and on XFS.
func TestSessions(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sessions mount filesystems and attach loop devices, which needs root")
	}
	root := t.TempDir()
	if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				t.Skip(err)
			}
			c := scripts.Config{
				Volume:   filepath.Join(root, "volume", "org.xen.xapi.storage.reflink"),
				Datapath: []string{filepath.Join(root, "datapath")},
				FS:       fs,
				Own:      true,
			}
			scripts.Test(t, c, files)
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"x"}, {"ls", "a", "b"}, {"show", "a"}, {"check"}, {"lease", "break", "x"}, {"demo", "x"}, {"ls", "-x"}} {
		var out, errs bytes.Buffer
		if status := run(args, &out, &errs); status != 2 || !strings.Contains(errs.String(), "usage: srctl") || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, %q", args, status, out.String(), errs.String())
		}
	}
}

// A monitoring system must not take an SR that could not be looked at for a good one.
func TestCheckOfNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none"), "/dev/null", filepath.Join(dir, ".reflinksr")} {
		var out, errs bytes.Buffer
		if status := run([]string{"check", "--json", path}, &out, &errs); status != 3 || !strings.Contains(errs.String(), "could not be checked") {
			t.Errorf("%s: exit %d, %s", path, status, errs.String())
		}
		var c checked
		if err := json.Unmarshal(out.Bytes(), &c); err != nil || c.Path != path || c.Error == "" || c.Problems == nil || c.Notes == nil || c.Repaired == nil {
			t.Errorf("%s: %s, %v", path, out.String(), err)
		}
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{"disk": "disk", "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`, "日本": "日本", `a"b`: `"a\"b"`} {
		if got := oneLine(text); got != want {
			t.Errorf("%q is printed as %s, want %s", text, got, want)
		}
	}
}
