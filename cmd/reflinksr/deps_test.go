package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

// The plugin is forked for every call: what it links, each of these forks pays for.
func TestPluginLinksLittle(t *testing.T) {
	forbidden := map[string]string{
		"net/http":                         "0.7 ms and 5 MB for a fork that opens no connection",
		"crypto/tls":                       "the same",
		"os/exec":                          "no call starts another program, but a few that are made once (internal/program/program.go): that costs more than the call",
		"vendor/golang.org/x/net":          "package net: 0.1 ms for a fork that asks no name server",
		"crypto":                           "0.2 ms; random keys are of the kernel (internal/uuids)",
		"github.com/google/uuid":           "it links both",
		"log/syslog":                       "a datagram to /dev/log needs no more than a socket",
		"text/template":                    "reflection for nothing",
		"regexp":                           "compiled at every start",
		"testing":                          "tests are not in the plugin",
		"github.com/containerd/continuity": "its root links protobuf: 0.6 ms and 3 MB",
		"github.com/rogpeppe/go-internal":  "testscript is for the testers' program",
		"github.com/spf13/cobra":           "argv[0] is the command",
		"google.golang.org/protobuf":       "1 ms at every start",
		"encoding/xml":                     "what speaks it is another program",
		"reflinksr/internal/image":         "formats of images are for those who import and export",
		"github.com/klauspost/compress":    "the same",
		"reflinksr/internal/nbd":           "whoever serves or reads somebody's disk is another program",
		"reflinksr/scripts":                "scenarios are for the testers' program",
		"reflinksr/internal/smapi/invoke":  "it answers calls, and makes none",
		"reflinksr/internal/plainsr":       "SRs on filesystems that cannot share blocks are for tests",
		"reflinksr/testdata":               "inputs of tests",
	}
	deps := goList(t, "-deps", "reflinksr/cmd/reflinksr")
	if !slices.Contains(deps, "reflinksr/sr") {
		t.Fatalf("the plugin does not even link reflinksr/sr: %v", deps)
	}
	for _, dep := range deps {
		for name, why := range forbidden {
			if dep == name || strings.HasPrefix(dep, name+"/") {
				t.Errorf("the plugin links %s: %s", dep, why)
			}
		}
	}
}

// Arrows go one way: cmd → internal/repository → snapshot, datapath → volume → datapath/lease → sr → internal. A package
// sees what its line names, and nothing else of ours; nor does it see what a door is made of. Doors are TestNevers' business.
func TestArrows(t *testing.T) {
	may := map[string][]string{
		"internal/fault":          {},
		"internal/inorder":        {},
		"internal/loop":           {},
		"internal/nbd":            {"internal/sys"},
		"internal/cgroup":         {"internal/mountinfo"},
		"internal/sectors":        {"internal/sys"},
		"internal/smapi":          {},
		"internal/sys":            {},
		"internal/units":          {},
		"internal/uuids":          {},
		"internal/xfs":            {"internal/uuids"},
		"internal/diskstat":       {},
		"internal/openmetrics":    {},
		"internal/participant":    {"internal/dirfs", "internal/fault", "internal/hostinfo", "internal/layout", "internal/record"},
		"internal/xenstore":       {},
		"internal/rrd":            {"internal/diskstat"},
		"internal/extent":         {"internal/fault", "internal/hostinfo", "internal/sys"},
		"internal/image":          {"internal/extent", "internal/fault", "internal/inorder", "internal/sys"},
		"internal/datastore":      {"internal/dirfs", "internal/extent", "internal/fault", "internal/image", "internal/nbd", "internal/program", "internal/reflink", "internal/sys"},
		"internal/opennebula":     {"internal/fault"},
		"internal/hostinfo":       {"internal/sys", "internal/uuids"},
		"internal/mountinfo":      {"internal/sys"},
		"internal/procs":          {"internal/sys"},
		"internal/program":        {"internal/fault"},
		"internal/record":         {"internal/fault"},
		"internal/track":          {"internal/sys"},
		"internal/doctor":         {"internal/hostinfo", "internal/program", "internal/sys", "internal/track", "internal/units", "internal/xfs"},
		"internal/smapi/invoke":   {"internal/smapi"},
		"internal/smapi/serve":    {"internal/fault", "internal/smapi"},
		"internal/reflink":        {"internal/extent", "internal/sys"},
		"internal/dirfs":          {"internal/fault", "internal/procs", "internal/reflink", "internal/sys", "internal/uuids"},
		"internal/rundir":         {"internal/dirfs"},
		"internal/filesystem":     {"internal/dirfs", "internal/extent", "internal/fault", "internal/reflink", "internal/rundir", "internal/sys", "internal/units", "internal/uuids", "internal/xfs"},
		"internal/layout":         {"internal/dirfs", "internal/fault", "internal/filesystem", "internal/record", "internal/reflink", "internal/uuids"},
		"internal/attached":       {"internal/dirfs", "internal/fault", "internal/layout", "internal/mountinfo", "internal/record", "internal/rundir", "internal/sys", "internal/uuids"},
		"internal/blockdev":       {"internal/attached", "internal/dirfs", "internal/fault", "internal/filesystem", "internal/layout", "internal/mountinfo", "internal/sys", "internal/uuids", "internal/xfs"},
		"internal/plainsr":        {"internal/attached", "internal/dirfs", "internal/filesystem", "internal/layout", "internal/rundir"},
		"internal/mount":          {"internal/blockdev", "internal/dirfs", "internal/fault", "internal/hostinfo", "internal/mountinfo", "internal/procs", "internal/rundir", "internal/sys", "internal/xfs"},
		"internal/overwrite":      {"internal/attached", "internal/blockdev", "internal/dirfs", "internal/fault", "internal/layout", "internal/mount", "internal/mountinfo", "internal/program", "internal/sys", "internal/uuids"},
		"internal/source":         {"internal/attached", "internal/blockdev", "internal/dirfs", "internal/fault", "internal/filesystem", "internal/layout", "internal/mount", "internal/mountinfo", "internal/overwrite", "internal/program", "internal/record", "internal/rundir", "internal/sys", "internal/units", "internal/uuids", "internal/xfs"},
		"sr":                      {"internal/attached", "internal/dirfs", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/layout", "internal/participant", "internal/mount", "internal/record", "internal/reflink", "internal/rundir", "internal/sectors", "internal/source", "internal/sys", "internal/uuids"},
		"datapath/lease":          {"internal/dirfs", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/layout", "internal/loop", "internal/mountinfo", "internal/record", "internal/rundir", "internal/uuids", "sr"},
		"internal/probe":          {"internal/blockdev", "internal/dirfs", "internal/fault", "internal/filesystem", "internal/layout", "internal/mount", "internal/mountinfo", "internal/overwrite", "internal/source", "sr"},
		"volume":                  {"datapath/lease", "internal/dirfs", "internal/extent", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/inorder", "internal/layout", "internal/record", "internal/reflink", "internal/sectors", "internal/source", "internal/sys", "internal/units", "sr"},
		"datapath":                {"datapath/lease", "internal/attached", "internal/dirfs", "internal/fault", "internal/hostinfo", "internal/layout", "internal/loop", "internal/mountinfo", "internal/procs", "internal/reflink", "internal/rundir", "internal/sys", "internal/uuids", "sr", "volume"},
		"snapshot":                {"datapath/lease", "internal/dirfs", "internal/extent", "internal/fault", "internal/hostinfo", "internal/loop", "internal/procs", "internal/reflink", "internal/sys", "internal/track", "snapshot/precopy", "sr", "volume"},
		"snapshot/precopy":        {"internal/extent", "internal/reflink", "internal/sys", "internal/track"},
		"snapshot/cbt":            {"datapath/lease", "internal/dirfs", "internal/extent", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/reflink", "internal/sys", "internal/units", "sr", "volume"},
		"internal/check":          {"datapath/lease", "internal/attached", "internal/dirfs", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/layout", "internal/loop", "internal/reflink", "internal/rundir", "internal/sys", "internal/uuids", "snapshot/cbt", "sr", "volume"},
		"internal/repository":     {"datapath", "datapath/lease", "internal/attached", "internal/check", "internal/dirfs", "internal/extent", "internal/fault", "internal/filesystem", "internal/hostinfo", "internal/layout", "internal/participant", "internal/probe", "internal/record", "internal/source", "snapshot", "snapshot/cbt", "sr", "volume"},
		"internal/smapiv1":        {"internal/fault", "internal/smapiv1/xenapi", "internal/smapiv1/xmlrpc"},
		"internal/smapiv1/xenapi": {"internal/smapiv1/xmlrpc"},
		"internal/smapiv1/xmlrpc": {},
	}
	for _, name := range goList(t, "reflinksr/sr/...", "reflinksr/volume/...", "reflinksr/snapshot/...", "reflinksr/datapath/...", "reflinksr/internal/...") {
		if may[strings.TrimPrefix(name, "reflinksr/")] == nil {
			t.Errorf("nothing says what %s may import: give it a line here", name)
		}
	}
	for room, allowed := range may {
		imports := goList(t, "-f", `{{join .Imports "\n"}}`, "reflinksr/"+room)
		if len(imports) == 0 && room != "internal/units" {
			t.Errorf("%s imports nothing: is it still there?", room)
		}
		for _, i := range imports {
			if ours, is := strings.CutPrefix(i, "reflinksr/"); is && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s: the arrow goes the wrong way", room, i)
			}
			if kernel := i == "os" || i == "syscall" || strings.HasPrefix(i, "golang.org/x/sys"); kernel && room == "internal/repository" {
				t.Errorf("%s imports %s: what it takes of the kernel is a room's business", room, i)
			}
			if room == "internal/smapi/invoke" && i == "os/exec" {
				continue // the toolstack's end of a call: it is for whoever calls plugins, and not in ours
			}
			if i == "flag" || i == "os/exec" || i == "log" || i == "testing" {
				t.Errorf("%s imports %s: that is a door's business", room, i)
			}
		}
	}
	for _, door := range []string{"reflinksr/internal/smapi/serve", "reflinksr/cmd/internal/plugin"} {
		for _, i := range goList(t, "-f", `{{join .Imports "\n"}}`, door) {
			if strings.HasPrefix(i, "reflinksr/scripts") {
				t.Errorf("%s imports %s", door, i)
			}
		}
	}
}

// A file of the rooms is one idea, and can be read at once.
func TestFilesAreShort(t *testing.T) {
	const limit = 350 // lines
	seen := 0
	for _, room := range []string{"sr", "volume", "snapshot", "datapath", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", room), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			if n := strings.Count(string(data), "\n"); n > limit {
				t.Errorf("%s has %d lines, of at most %d: which ideas are in it?", strings.TrimPrefix(path, "../../"), n, limit)
			}
			seen++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 100 {
		t.Errorf("%d files: where are the rooms?", seen)
	}
}
