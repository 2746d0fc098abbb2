package plugin

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// host is a root with a toolstack of the older interface in it, and this test's program with the driver beside it.
func host(t *testing.T, conf map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{driversDir, xapiConfDir} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range conf {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), driverProgram)
	if err := os.WriteFile(beside, []byte("a program: reflinksr/cmd/"+driverProgram), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(beside) })
	return root
}

func TestInstallDriver(t *testing.T) {
	root := host(t, map[string]string{
		xapiConf:                       "# sm-plugins=none\nsm-plugins=ext nfs\n",
		xapiConfDir + "/50-other.conf": "sm-plugins = ext nfs linstor\n",
		xapiConfDir + "/60-else.conf":  "relation=1\n",
	})
	for range 2 {
		if err := Install([]string{"-smapiv1", "-root", root}, io.Discard); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(root, allowedFile))
		if err != nil || string(text) != ownList+"sm-plugins=ext nfs linstor reflink\n" {
			t.Errorf("%q, %v", text, err)
		}
		st, err := os.Stat(filepath.Join(root, driversDir, driver))
		if err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%v, %v", st, err)
		}
		program, err := os.ReadFile(filepath.Join(root, driversDir, driver))
		if err != nil || !strings.Contains(string(program), "__main__.py") {
			t.Errorf("without a trailer for Python: %q, %v", program, err)
		}
	}
	if err := Uninstall([]string{"-smapiv1", "-root", root, "-force"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(root + "/*/*/*")
	if err != nil || len(left) != 3 { // opt/xensource/sm and the two files of others
		t.Errorf("left: %q, %v", left, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, driversDir)); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := Uninstall([]string{"-smapiv1", "-root", root}, io.Discard); err != nil {
		t.Error(err)
	}
}

// Where it could do harm, or no good, it is not installed, and nothing is touched.
func TestInstallDriverRefused(t *testing.T) {
	for says, conf := range map[string]map[string]string{
		"list of allowed drivers": {xapiConf: "# nothing\n"},
		"counts after ours":       {xapiConf: "sm-plugins=ext\n", xapiConfDir + "/99-zzz.conf": "sm-plugins=ext\n"},
		"another project's":       {xapiConf: "sm-plugins=ext\n", driversDir + "/" + driver: "#!/usr/bin/python3\n"},
	} {
		root := host(t, conf)
		if err := Install([]string{"-smapiv1", "-root", root}, io.Discard); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", conf, err)
		}
		if _, err := os.Stat(filepath.Join(root, allowedFile)); err == nil {
			t.Errorf("%v: it is allowed", conf)
		}
		if text, err := os.ReadFile(filepath.Join(root, driversDir, driver)); conf[driversDir+"/"+driver] == "" && err == nil || err == nil && string(text) != conf[driversDir+"/"+driver] {
			t.Errorf("%v: it was installed: %q, %v", conf, text, err)
		}
	}
	root := host(t, map[string]string{xapiConf: "sm-plugins=*\n"})
	if err := Install([]string{"-root", filepath.Join(root, roots[0])}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := Install([]string{"-smapiv1", "-root", root}, io.Discard); err == nil || !strings.Contains(err.Error(), "SMAPIv3 is installed") {
		t.Errorf("both are installed: %v", err)
	}
	if err := Uninstall([]string{"-root", filepath.Join(root, roots[0]), "-force"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := Install([]string{"-smapiv1", "-root", root}, io.Discard); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, allowedFile)); err == nil {
		t.Error("a list is made where all are allowed")
	}
}
