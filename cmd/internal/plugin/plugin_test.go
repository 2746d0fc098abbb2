package plugin

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
			for _, name := range links(d.calls(), false) {
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

// The program that serves disks is installed with the plugin if it is beside it, over an installation with and without it; then the call
// that needs it is there as well.
func TestInstallWithServer(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), server)
	root := t.TempDir()
	for _, with := range []bool{false, true, true, false} {
		os.Remove(beside)
		if with {
			if err := os.WriteFile(beside, []byte("a program"), 0o700); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(beside)
		}
		if err := Install([]string{"-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
		if _, err := Installed(root); err != nil {
			t.Error(err)
		}
		for _, d := range directories {
			st, err := os.Stat(filepath.Join(root, d.path, server))
			if with != (err == nil) || with && st.Mode().Perm() != 0o755 {
				t.Errorf("%s with a server %v: %v, %v", d.path, with, st, err)
			}
		}
		_, err := os.Lstat(filepath.Join(root, directories[0].path, "Datapath.import_activate"))
		if with != (err == nil) {
			t.Errorf("with a server %v: import_activate %v", with, err)
		}
	}
}
