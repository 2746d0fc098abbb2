package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// onDebian is what is on such a host besides what is on every one.
var onDebian = map[string]string{
	"/usr/share/doc/reflinksr": "40755 0:0", "/usr/share/doc/reflinksr/changelog.gz": "100644 0:0",
	"/usr/share/doc/reflinksr/copyright": "100644 0:0", "/usr/share/zsh/vendor-completions/_srctl": "100644 0:0",
}

func debHost(t *testing.T) host {
	root := newHost(t)
	for _, dir := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg := func(args ...string) *exec.Cmd {
		return exec.Command("dpkg", append([]string{"--root=" + root, "--force-bad-path", "--log=/dev/null"}, args...)...)
	}
	return host{
		root:    root,
		install: func(t *testing.T, packet string) string { return output(t, dpkg("-i", packet)) },
		remove:  dpkg("-r", "reflinksr"),
		version: func(t *testing.T) string {
			said := output(t, exec.Command("dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-W", "-f", "${db:Status-Abbrev}${Version}", "reflinksr"))
			return strings.TrimPrefix(said, "ii ")
		},
	}
}

// withDeb does the same with dpkg.
func withDeb(t *testing.T, older, newer string) {
	h := debHost(t)
	h.install(t, older)
	h.checkVersion(t, "1.0.0-1", "1.0.0-1")
	h.checkFiles(t, onDebian)

	stop := watched(t, filepath.Join(h.root, volumeDir, "SR.create"), filepath.Join(h.root, dataDir, "Datapath.attach"))
	h.install(t, newer)
	stop()
	h.checkVersion(t, "1.0.1-2", "1.0.1-2")
	h.checkFiles(t, onDebian)

	h.install(t, newer) // again
	h.checkVersion(t, "1.0.1-2", "1.0.1-2")
	h.checkFiles(t, onDebian)
	h.refusesRemoval(t)
	output(t, h.remove)
	h.checkNothing(t)
}
