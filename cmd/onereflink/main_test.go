package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/scripts"
	"reflinksr/scripts/sandbox"
	"reflinksr/scripts/scratch"
)

// TestMain makes this test binary the program as well, by the name of an action or its own.
func TestMain(m *testing.M) {
	sandbox.Hook()
	if dir := filepath.Base(filepath.Dir(os.Args[0])); dir == driver || filepath.Base(os.Args[0]) == "onereflink" {
		main()
	}
	if filepath.Base(os.Args[0]) == "downloader.sh" {
		os.Exit(downloader(os.Args[1:]))
	}
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// installed is a directory with the drivers.
func installed(t testing.TB) string {
	t.Helper()
	remotes := t.TempDir()
	if err := install(remotes); err != nil {
		t.Fatal(err)
	}
	return remotes
}

// TestScenarios plays OpenNebula to the drivers, on btrfs and on XFS.
func TestScenarios(t *testing.T) {
	scripts.TestOnBoth(t, scripts.Config{OpenNebula: installed(t), Own: true})
}

// What was installed can be installed again, and removed: nothing else is touched.
func TestInstall(t *testing.T) {
	remotes := installed(t)
	other := filepath.Join(remotes, "tm", "shared")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := install(remotes); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(remotes, self), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "onereflink ") {
		t.Errorf("%v: %s", err, out)
	}
	if err := uninstall(remotes); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"tm", "datastore"} {
		left, err := os.ReadDir(filepath.Join(remotes, dir))
		if err != nil || dir == "tm" && len(left) != 1 || dir == "datastore" && len(left) != 0 {
			t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
	if err := install(filepath.Join(remotes, "nowhere")); err == nil {
		t.Error("it is installed where nothing is")
	}
}

func TestHere(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"": true, "localhost": true, name: true, strings.ToUpper(name): true, name + "x": false, "-oProxyCommand=x": false} {
		if here(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

// The add-on's script installs into a front-end, again, and takes all of it out.
func TestAddon(t *testing.T) {
	top := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "onereflink")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"etc/oned.conf": onedConf, "etc/vmm_exec/vmm_execrc": vmmExec, "var/remotes/VERSION": "7.4.0\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(top, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		c := exec.Command("../../addons/opennebula/install.sh", append(args, program)...)
		c.Env = append(os.Environ(), "ONE_LOCATION="+top, "ONE_USER=root", "AUTOCONF=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run()
	run()
	for name := range links() {
		if _, err := os.Lstat(filepath.Join(top, "var/remotes", name)); err != nil {
			t.Error(err)
		}
	}
	conf, err := os.ReadFile(filepath.Join(top, "etc/oned.conf"))
	if err != nil || !strings.Contains(string(conf), settings) {
		t.Errorf("%v: %s", err, conf)
	}
	run("undo")
	conf, err = os.ReadFile(filepath.Join(top, "etc/oned.conf"))
	if err != nil || string(conf) != onedConf {
		t.Errorf("%v: %s", err, conf)
	}
	if _, err := os.Stat(filepath.Join(top, "var/remotes/tm/reflink")); !os.IsNotExist(err) {
		t.Error("tm/reflink is there still")
	}
}
