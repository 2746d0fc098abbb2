package plugin

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/serve"
)

// Each plugin answers only calls that its kind may have, each once, and what the toolstack
// cannot do without.
func TestCallsAreTheInterfaces(t *testing.T) {
	for in, handlers := range map[smapi.Plugins][]serve.Handler{smapi.InVolume: volumeCalls(), smapi.InDatapath: datapathCalls()} {
		have := map[string]bool{}
		for _, h := range handlers {
			if c := smapi.Find(h.Call()); c == nil || c.In&in == 0 || have[h.Call()] {
				t.Errorf("%s is no call of such a plugin, or is there twice", h.Call())
			}
			have[h.Call()] = true
		}
		for _, c := range smapi.Calls {
			without := strings.HasPrefix(c.Call(), "Data.") || strings.HasPrefix(c.Call(), "Task.") || c.Call() == "Datapath.import_activate"
			if c.In&in != 0 && !without && !have[c.Call()] {
				t.Errorf("%s is missing", c.Call())
			}
		}
	}
}

func TestCallsAt(t *testing.T) {
	for argv0, want := range map[string]int{
		"/x/volume/org.xen.xapi.storage.reflink/SR.ls": len(volumeCalls()),
		"/x/datapath/loop+blkback/Plugin.Query":        len(datapathCalls()),
		"Plugin.query":                                 len(volumeCalls()) + len(datapathCalls()),
	} {
		if got := callsAt(argv0); len(got) != want {
			t.Errorf("%s: %d calls, want %d", argv0, len(got), want)
		}
	}
	for name, want := range map[string]bool{"SR.ls": true, "/a/b/volume.compare": true, "Task.ls": true, "reflinksr": false, "srctl.exe": false, "Volume.": false, "x.y": false} {
		if IsCall(name) != want {
			t.Errorf("%s is a call: %v", name, !want)
		}
	}
}

// What is told to the toolstack, word by word: it decides by that what it asks for.
func TestFeatures(t *testing.T) {
	want := strings.Fields(`SR_CREATE SR_DELETE SR_ATTACH SR_DETACH SR_SCAN SR_PROBE SR_UPDATE
		VDI_CREATE VDI_DESTROY VDI_ATTACH VDI_DETACH VDI_ATTACH_OFFLINE VDI_ACTIVATE VDI_ACTIVATE_READONLY VDI_DEACTIVATE
		VDI_UPDATE VDI_CLONE VDI_SNAPSHOT VDI_COPY VDI_REVERT VDI_CONFIG_CBT VDI_COMPOSE
		VDI_RESIZE VDI_RESIZE_ONLINE LARGE_VDI THIN_PROVISIONING`)
	if got := volumeQuery().Features; !slices.Equal(got, want) {
		t.Errorf("the volume plugin has %q, want %q", got, want)
	}
	if got := datapathQuery().Features; !slices.Equal(got, []string{"NONPERSISTENT"}) {
		t.Errorf("the datapath plugin has %q", got)
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
			for _, name := range links(d.calls()) {
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
