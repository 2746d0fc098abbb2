package version

import (
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	for want, settings := range map[string][]debug.BuildSetting{
		"1.2.3 (go1.26.0)": nil,
		"1.2.3 (revision abc, 2026-01-02T03:04:05Z, go1.26.0)":           {{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "false"}},
		"1.2.3 (revision abc, modified, 2026-01-02T03:04:05Z, go1.26.0)": {{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs.modified", Value: "true"}},
	} {
		if got := describe("1.2.3", &debug.BuildInfo{GoVersion: "go1.26.0", Settings: settings}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Each program tells its version, or the one that it was built with if that was set; so does
// Plugin.query.
func TestPrograms(t *testing.T) {
	const set = "-X reflinksr/cmd/internal/version.Version=9.8.7-set"
	for name, flags := range map[string]string{"reflinksr": set, "srctl": "", "srtest": ""} {
		path := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("go", "build", "-ldflags", flags, "-o", path, "reflinksr/cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want := name + " " + Version + " ("
		if flags != "" {
			want = name + " 9.8.7-set ("
		}
		out, err := exec.Command(path, "version").Output()
		if err != nil || !strings.HasPrefix(string(out), want) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s version: %q, %v; want %s…", name, out, err, want)
		}
		if name != "reflinksr" {
			continue
		}
		if out, err := exec.Command(path, "Plugin.query", "dbg").Output(); err != nil || !strings.Contains(string(out), `"version":"9.8.7-set"`) {
			t.Errorf("Plugin.query: %s, %v", out, err)
		}
	}
}
