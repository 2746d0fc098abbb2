package rig

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/cmd/internal/plugin"
)

// A plugin is found by its own directories and by those above them, whatever lies beside.
func TestAt(t *testing.T) {
	root := t.TempDir()
	if err := plugin.Install([]string{"-root", root}, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := In(root)
	beside := filepath.Join(root, "datapath", "tapdisk")
	if err := os.Mkdir(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(beside, "Datapath.attach"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	for _, volume := range []string{want.Volume, "volume", "volume/org.xen.xapi.storage.reflink/"} {
		for _, datapath := range []string{want.Datapath, "datapath", "./datapath/loop+blkback"} {
			if p, err := At(volume, datapath); err != nil || p != want {
				t.Errorf("%s and %s: %+v, %v", volume, datapath, p, err)
			}
		}
	}
	if p, err := At("", ""); err != nil || p != (Plugin{}) {
		t.Errorf("%+v, %v", p, err)
	}
	for _, c := range [][3]string{{"volume", "", "go together"}, {"datapath/tapdisk", "datapath", "there is no Plugin.Query in it"}, {"volume", "nowhere", "no plugin there"}} {
		if _, err := At(c[0], c[1]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%q: %v", c, err)
		}
	}
}
