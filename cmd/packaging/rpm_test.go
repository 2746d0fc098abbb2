package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// onRPM is what is on such a host besides what is on every one.
var onRPM = map[string]string{
	"/usr/share/doc/reflinksr": "40755 0:0", "/usr/share/doc/reflinksr/CHANGELOG.md": "100644 0:0",
	"/usr/share/licenses/reflinksr": "40755 0:0", "/usr/share/licenses/reflinksr/LICENSE": "100644 0:0",
	"/usr/share/licenses/reflinksr/LICENSES-of-all-parts": "100644 0:0", "/usr/share/zsh/site-functions/_srctl": "100644 0:0",
}

// rpmHost is a host with rpm alone, which knows that there is a shell from nobody.
func rpmHost(t *testing.T) host {
	root := newHost(t)
	rpm := func(args ...string) *exec.Cmd {
		return exec.Command("rpm", append([]string{"--root", root}, args...)...)
	}
	return host{
		root:    root,
		install: func(t *testing.T, packet string) string { return output(t, rpm("-U", "--nodeps", packet)) },
		remove:  rpm("-e", "reflinksr"),
		version: func(t *testing.T) string { return output(t, rpm("-q", "--qf", "%{VERSION}-%{RELEASE}", "reflinksr")) },
	}
}

// withRPM does what an administrator does, with dnf and a repository.
func withRPM(t *testing.T, older, newer string) {
	h := rpmHost(t)
	repository := filepath.Join(h.root, "packages")
	dnf := func(args ...string) *exec.Cmd {
		return exec.Command("dnf", append([]string{"-y", "--installroot=" + h.root, "--releasever=1", "--setopt=reposdir=" + h.root, "--noplugins", "--refresh",
			"--setopt=cachedir=" + filepath.Join(h.root, "var/cache"), "--repofrompath=ours,file://" + repository, "--setopt=ours.gpgcheck=0"}, args...)...)
	}
	offer := func(packet string) {
		t.Helper()
		copyTo(t, packet, filepath.Join(repository, filepath.Base(packet)))
		output(t, exec.Command("createrepo_c", "-q", repository))
	}
	offer(shellPackage(t, filepath.Join(h.root, "bin/sh")))
	offer(older)
	output(t, dnf("install", "reflinksr"))
	h.checkVersion(t, "1.0.0-1", "1.0.0-1")
	h.checkFiles(t, onRPM)
	if said := output(t, exec.Command("rpm", "--root", h.root, "-V", "reflinksr")); said != "" {
		t.Errorf("rpm finds changed: %s", said)
	}

	offer(newer)
	stop := watched(t, filepath.Join(h.root, volumeDir, "SR.create"), filepath.Join(h.root, dataDir, "Datapath.attach"))
	output(t, dnf("upgrade", "reflinksr"))
	stop()
	h.checkVersion(t, "1.0.1-2", "1.0.1-2")
	h.checkFiles(t, onRPM)
	if said := output(t, exec.Command("rpm", "--root", h.root, "-V", "reflinksr")); said != "" {
		t.Errorf("rpm finds changed: %s", said)
	}
	whose := []string{"--root", h.root, "-qf", "--qf", "%{NAME}-%{VERSION}\n"}
	for path, is := range h.ours(t) {
		link := strings.HasPrefix(path, pluginRoot) && strings.HasPrefix(is, "120777")
		if !strings.HasPrefix(path, "/etc/systemd/") && !link { // what systemctl makes is nobody's, nor are names that every plugin has
			whose = append(whose, path)
		}
	}
	if said := output(t, exec.Command("rpm", whose...)); strings.ReplaceAll(said, "reflinksr-1.0.1\n", "") != "" {
		t.Errorf("whose the files are: %s", said)
	}

	output(t, dnf("reinstall", "reflinksr"))
	h.checkVersion(t, "1.0.1-2", "1.0.1-2")
	h.checkFiles(t, onRPM)
	h.refusesRemoval(t)
	output(t, dnf("remove", "reflinksr"))
	h.checkNothing(t)
}

// shellPackage is one that has the shell of such a host, for who asks which package has it.
func shellPackage(t *testing.T, shell string) string {
	dir := t.TempDir()
	config := filepath.Join(dir, "nfpm.yaml")
	if err := os.WriteFile(config, []byte("name: shell\nversion: 1.0.0\narch: all\nmaintainer: nobody\ncontents: [{src: "+shell+", dst: /bin/sh}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nfpm := exec.Command("go", "tool", "-modfile=tools/go.mod", "nfpm", "package", "--config", config, "--packager", "rpm", "--target", dir)
	nfpm.Dir = "../.."
	output(t, nfpm)
	return one(t, dir, "*.rpm")
}

// watched looks all the time whether the calls are there.
func watched(t *testing.T, calls ...string) (stop func()) {
	var end atomic.Bool
	done := make(chan int)
	go func() {
		looks := 0
		for ; !end.Load(); looks++ {
			for _, call := range calls {
				if _, err := os.Stat(call); err != nil {
					t.Errorf("during the upgrade: %v", err)
					end.Store(true)
				}
			}
		}
		done <- looks
	}()
	return func() {
		t.Helper()
		end.Store(true)
		if looks := <-done; looks < 1000 {
			t.Errorf("%d looks: nobody watched", looks)
		}
	}
}

// Another project's plugin that has the name of ours is not touched: not by an installation, nor by a removal.
func besideAnother(t *testing.T, packet string) {
	h := rpmHost(t)
	theirs := filepath.Join(h.root, dataDir)
	if err := os.MkdirAll(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	calls := []string{"Plugin.Query", "Datapath.attach", "Datapath.detach", "Datapath.open", "datapath.py"}
	for _, call := range calls {
		if err := os.WriteFile(filepath.Join(theirs, call), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if said := h.install(t, packet); !strings.Contains(said, "is another plugin's") {
		t.Errorf("nothing is said of it: %s", said)
	}
	output(t, h.remove)
	for _, call := range calls {
		if _, err := os.Stat(filepath.Join(theirs, call)); err != nil {
			t.Error(err)
		}
	}
}
