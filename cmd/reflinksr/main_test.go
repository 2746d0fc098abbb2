package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/scripts"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
)

// TestMain makes this test binary the plugin as well: installed and called by the
// name of a call it is that call, so every call of a scenario is a real process
// and counts for coverage.
func TestMain(m *testing.M) {
	sandbox.Hook()
	if plugin.IsCall(os.Args[0]) {
		os.Exit(plugin.Main())
	}
	program := func() { os.Exit(plugin.Command(os.Args[1:])) }
	if filepath.Base(os.Args[0]) == "reflinksr" {
		program()
	}
	// Each process of a race-detecting build would wait a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	testscript.Main(m, map[string]func(){"reflinksr": program})
}

// TestScenarios runs every scenario on btrfs and on XFS through an installed plugin.
func TestScenarios(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("scenarios mount filesystems and attach loop devices, which needs root")
	}
	root := t.TempDir()
	if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
		t.Fatal(err)
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
				Race:     raced,
			}
			files, err := c.Select(t.TempDir(), regexp.MustCompile(""))
			if err != nil {
				t.Fatal(err)
			}
			scripts.Test(t, c, files)
		})
	}
}
