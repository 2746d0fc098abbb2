package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/internal/repository"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
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
	tests.Waiting()
	testscript.Main(m, map[string]func(){"reflinksr": program})
}

// beside picks the scenarios in which goroutines of one call work side by side: those
// with many volumes, and those that a race-detecting plugin should be seen in anyway.
var beside = regexp.MustCompile(`thousands|list|_ls_|many|main_job|sr_life|check`)

// every matches the name of every scenario.
var every = regexp.MustCompile("")

// TestScenarios runs every scenario on btrfs and on XFS through an installed plugin; what of them
// the quick command runs, and what runs in parts, see chosen.
//
// A call of a race-detecting build takes ten times as long as one of the plugin that is
// shipped, and nearly all calls are one goroutine. So in a race-detecting build most
// scenarios call a plain plugin.
func TestScenarios(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices for scenarios")
	plain := install(t)
	root := plain
	if raced {
		root = t.TempDir()
		if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	for turn, fs := range []string{"btrfs", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			if err := scratch.Available(fs); err != nil {
				tests.Skip(t, err)
			}
			files, err := scripts.Config{Own: true}.Select(t.TempDir(), every)
			if err != nil {
				t.Fatal(err)
			}
			files = chosen(files, turn)
			if raced {
				some := slices.DeleteFunc(slices.Clone(files), func(file string) bool { return !beside.MatchString(filepath.Base(file)) })
				files = slices.DeleteFunc(files, func(file string) bool { return slices.Contains(some, file) })
				scripts.Test(t, config(root, fs, true), some)
			}
			scripts.Test(t, config(plain, fs, false), files)
		})
	}
}

func config(root, fs string, race bool) scripts.Config {
	return scripts.Config{
		Volume:   filepath.Join(root, "volume", "org.xen.xapi.storage.reflink"),
		Datapath: []string{filepath.Join(root, "datapath")},
		FS:       fs,
		Own:      true,
		Race:     race,
		Limit:    time.Hour, // what hangs ends with the time that go test has; on a busy machine some take long
	}
}

// calls makes calls of the plugin that is installed below root.
func calls(root, debug string) invoke.Plugin {
	volume, datapath := plugin.Directories(root)
	return invoke.Plugin{Volume: volume, Datapath: datapath, Debug: debug}
}

// install installs the plugin and returns the root: this very program, unless it is a
// race-detecting build.
func install(t testing.TB) (root string) {
	t.Helper()
	root = t.TempDir()
	buildServer(t, filepath.Dir(os.Args[0]))
	if !raced {
		if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
		return root
	}
	program := filepath.Join(t.TempDir(), "reflinksr")
	buildServer(t, filepath.Dir(program))
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(program, "install", "--root", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

// buildServer builds the program that serves disks beside the plugin, which is installed with it.
func buildServer(t testing.TB, dir string) {
	t.Helper()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, repository.ServerProgram), "../srnbd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
