package main

import (
	"os/exec"
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
		"os/exec":                          "no call starts another program, but a few that are made once (sr/program.go): that costs more than the call",
		"log/syslog":                       "a datagram to /dev/log needs no more than a socket",
		"text/template":                    "reflection for nothing",
		"regexp":                           "compiled at every start",
		"testing":                          "tests are not in the plugin",
		"github.com/containerd/continuity": "its root links protobuf: 0.6 ms and 3 MB",
		"github.com/rogpeppe/go-internal":  "testscript is for the testers' program",
		"github.com/spf13/cobra":           "argv[0] is the command",
		"google.golang.org/protobuf":       "1 ms at every start",
		"reflinksr/scripts":                "scenarios are for the testers' program",
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

// Arrows go one way: cmd → snapshot, datapath → volume → sr, with datapath/loop a
// leaf below all. Rooms never see a door, nor anything a door is made of.
func TestArrows(t *testing.T) {
	may := map[string][]string{
		"reflinksr/sr":             {},
		"reflinksr/datapath/loop":  {},
		"reflinksr/volume":         {"reflinksr/sr", "reflinksr/datapath/loop"},
		"reflinksr/snapshot":       {"reflinksr/sr", "reflinksr/datapath/loop", "reflinksr/volume"},
		"reflinksr/datapath":       {"reflinksr/sr", "reflinksr/datapath/loop", "reflinksr/volume"},
		"reflinksr/internal/smapi": {},
	}
	for room, allowed := range may {
		imports := goList(t, "-f", `{{join .Imports "\n"}}`, room)
		if len(imports) == 0 {
			t.Errorf("%s imports nothing: is it still there?", room)
		}
		for _, i := range imports {
			if strings.HasPrefix(i, "reflinksr/") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s: the arrow goes the wrong way", room, i)
			}
			if i == "flag" || i == "os/exec" || i == "log" {
				t.Errorf("%s imports %s: that is a door's business", room, i)
			}
		}
	}
	// The toolstack's end of the interface is for whoever tests plugins, also others'.
	for _, i := range goList(t, "-f", `{{join .Imports "\n"}}`, "reflinksr/internal/smapi/invoke") {
		if strings.HasPrefix(i, "reflinksr/") && i != "reflinksr/internal/smapi" {
			t.Errorf("reflinksr/internal/smapi/invoke imports %s", i)
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
