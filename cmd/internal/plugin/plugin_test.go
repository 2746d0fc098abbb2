package plugin

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"reflinksr/cmd/internal/smapi"
)

// The interface's own argument names, from its IDL (xapi-project/xen-api,
// ocaml/xapi-storage), without dbg.
var idl = map[string]string{
	"Plugin.query":               "",
	"Plugin.ls":                  "",
	"Plugin.diagnostics":         "",
	"SR.probe":                   "configuration",
	"SR.create":                  "uuid configuration name description",
	"SR.attach":                  "configuration",
	"SR.detach":                  "sr",
	"SR.destroy":                 "sr",
	"SR.stat":                    "sr",
	"SR.set_name":                "sr new_name",
	"SR.set_description":         "sr new_description",
	"SR.ls":                      "sr",
	"Volume.create":              "sr name description size sharable",
	"Volume.snapshot":            "sr key",
	"Volume.clone":               "sr key",
	"Volume.copy":                "sr key dest_sr",
	"Volume.destroy":             "sr key",
	"Volume.revert":              "sr snapshot key",
	"Volume.set_name":            "sr key new_name",
	"Volume.set_description":     "sr key new_description",
	"Volume.set":                 "sr key k v",
	"Volume.unset":               "sr key k",
	"Volume.resize":              "sr key new_size",
	"Volume.stat":                "sr key",
	"Volume.compare":             "sr key key2",
	"Volume.similar_content":     "sr key",
	"Volume.enable_cbt":          "sr key",
	"Volume.disable_cbt":         "sr key",
	"Volume.data_destroy":        "sr key",
	"Volume.list_changed_blocks": "sr key key2 offset length",
	"Volume.compose":             "sr key key2",
	"Datapath.open":              "uri persistent",
	"Datapath.attach":            "uri domain",
	"Datapath.activate":          "uri domain",
	"Datapath.activate_readonly": "uri domain",
	"Datapath.deactivate":        "uri domain",
	"Datapath.detach":            "uri domain",
	"Datapath.close":             "uri",
}

func TestCallsAreTheInterfaces(t *testing.T) {
	have := map[string]bool{}
	for _, c := range calls {
		want, ok := idl[c.name]
		if !ok {
			t.Errorf("%s is no call of the interface", c.name)
		}
		var names []string
		for _, p := range smapi.Params(c.params) {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s takes %q, the interface says %q", c.name, got, want)
		}
		if c.run == nil || c.about == "" {
			t.Errorf("%s does nothing", c.name)
		}
		have[c.name] = true
	}
	for name := range maps.Keys(idl) {
		if !have[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestIdentify(t *testing.T) {
	for argv0, want := range map[string]place{
		"/x/volume/org.xen.xapi.storage.reflink/SR.ls": inVolume,
		"/x/datapath/loop+blkback/Plugin.Query":        inDatapath,
		"Plugin.query":                                 inVolume | inDatapath,
	} {
		if name, where := identify(argv0); where != want || name != filepath.Base(argv0) {
			t.Errorf("%s: %s, %v", argv0, name, where)
		}
	}
	if find("PLUGIN.QUERY", inDatapath) == find("Plugin.query", inVolume) {
		t.Error("both directories answer with the same plugin")
	}
	for name, want := range map[string]bool{"SR.ls": true, "/a/b/volume.compare": true, "Task.ls": true, "reflinksr": false, "srctl.exe": false, "Volume.": false, "x.y": false} {
		if IsCall(name) != want {
			t.Errorf("%s is a call: %v", name, !want)
		}
	}
}

// Advertised is what works: a feature needs its call.
func TestFeaturesHaveCalls(t *testing.T) {
	needs := map[string]string{
		"SR_CREATE": "SR.create", "SR_DELETE": "SR.destroy", "SR_ATTACH": "SR.attach", "SR_DETACH": "SR.detach", "SR_SCAN": "SR.ls",
		"SR_PROBE": "SR.probe", "SR_UPDATE": "SR.stat", "VDI_CREATE": "Volume.create", "VDI_DESTROY": "Volume.destroy", "VDI_UPDATE": "Volume.stat",
		"VDI_ATTACH": "Datapath.attach", "VDI_DETACH": "Datapath.detach", "VDI_ATTACH_OFFLINE": "Datapath.attach",
		"VDI_ACTIVATE": "Datapath.activate", "VDI_ACTIVATE_READONLY": "Datapath.activate_readonly", "VDI_DEACTIVATE": "Datapath.deactivate",
		"VDI_CLONE": "Volume.clone", "VDI_SNAPSHOT": "Volume.snapshot", "VDI_COPY": "Volume.copy", "VDI_REVERT": "Volume.revert",
		"VDI_RESIZE": "Volume.resize", "VDI_RESIZE_ONLINE": "Volume.resize", "LARGE_VDI": "Volume.create", "THIN_PROVISIONING": "Volume.create",
		"VDI_CONFIG_CBT": "Volume.list_changed_blocks", "VDI_COMPOSE": "Volume.compose",
		"NONPERSISTENT": "Datapath.open",
	}
	for _, feature := range slices.Concat(volumeQuery.Features, datapathQuery.Features) {
		if name, ok := needs[feature]; !ok || find(name, inVolume|inDatapath) == nil {
			t.Errorf("feature %s is advertised without a call", feature)
		}
	}
}

func TestTrailer(t *testing.T) {
	program := []byte("\x7fELF and so on")
	with, err := withTrailer(program)
	if err != nil || !bytes.HasPrefix(with, program) {
		t.Fatalf("%q, %v", with, err)
	}
	again, err := withTrailer(with)
	if err != nil || !bytes.Equal(again, with) {
		t.Errorf("a second trailer was appended, %v", err)
	}
	z, err := zip.NewReader(bytes.NewReader(with), int64(len(with)))
	if err != nil || len(z.File) != 1 || z.File[0].Name != "__main__.py" {
		t.Fatalf("%v, %v", z, err)
	}
}

func TestInstallIsComplete(t *testing.T) {
	root := t.TempDir()
	for range 2 { // the second exchanges the first
		if err := Install([]string{"-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
		for _, d := range directories {
			for _, name := range links(d.where) {
				st, err := os.Stat(filepath.Join(root, d.path, name))
				if err != nil || st.Mode().Perm() != 0o755 {
					t.Errorf("%s/%s: %v, %v", d.path, name, st, err)
				}
			}
		}
		left, err := filepath.Glob(root + "/.*")
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{file, filepath.Join(file, "below")} {
		if err := Install([]string{"-root", in}, io.Discard); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("installed in %s: %v", in, err)
		}
	}
}

// Whatever a caller calls things, a record of the log is one line, and shows no
// control character.
func FuzzLog(f *testing.F) {
	f.Add("k\n<0>forged", int64(time.Second))
	f.Add("\x1b[2J\u2028\u202e\xff\u0085", int64(-1))
	f.Fuzz(func(t *testing.T, text string, n int64) {
		for _, a := range []slog.Attr{
			slog.String("key", text), slog.Any("err", errors.New(text)), slog.Any("names", []string{text}), slog.Duration("took", time.Duration(n)), slog.Int64("n", n),
		} {
			line := formatAttr(a)
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(line) || !strings.HasPrefix(line, " "+a.Key+"=") {
				t.Errorf("%q is logged as %q", text, line)
			}
		}
	})
}
