package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	program   = "/usr/libexec/reflinksr/reflinksr"
	volumeDir = pluginRoot + "/volume/org.xen.xapi.storage.reflink"
	dataDir   = pluginRoot + "/datapath/loop+blkback"
	unit      = "/usr/lib/systemd/system/reflinksr-metrics.service"
)

// host is a root directory with a shell and little else: no /proc, no /dev.
type host struct {
	root    string
	install func(t *testing.T, packet string) (said string) // or upgrades
	remove  *exec.Cmd
	version func(t *testing.T) string // of the package, as its manager knows it
}

// newHost makes one with a shell, which is what runs scripts, what they call, and another project's plugin.
func newHost(t *testing.T) string {
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/bin/sh", "/usr/bin/systemctl"} {
		copyTo(t, name, filepath.Join(root, name))
		for _, library := range regexp.MustCompile(`/\S+`).FindAllString(output(t, exec.Command("ldd", name)), -1) {
			copyTo(t, library, filepath.Join(root, library))
		}
	}
	other := filepath.Join(root, pluginRoot, "volume/org.example.other")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "Plugin.query"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, read(t, from), 0o755); err != nil {
		t.Fatal(err)
	}
}

// in runs a program of the host, on it.
func (h host) in(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, h.command(args...))
}

func (h host) command(args ...string) *exec.Cmd {
	return exec.Command("chroot", append([]string{h.root}, args...)...)
}

// ours lists what is on the host and the package's, by its name or by those of its parts: mode, owner, and where links lead.
func (h host) ours(t *testing.T) (found map[string]string) {
	t.Helper()
	found = map[string]string{}
	name := regexp.MustCompile(`reflink|srctl|srtest|loop\+blkback`)
	err := filepath.WalkDir(h.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path, h.root)
		if at == "/packages" || at == "/var" { // the manager's
			return fs.SkipDir
		}
		if name.MatchString(at) {
			found[at] = describe(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func describe(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	to, _ := os.Readlink(path)
	return strings.TrimSpace(fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, to))
}

// checkFiles holds what is there against what the package must have, and the plugin directories against
// what the program installs elsewhere.
func (h host) checkFiles(t *testing.T, documents map[string]string) {
	t.Helper()
	want := map[string]string{
		"/usr/libexec/reflinksr": "40755 0:0",
		program:                  "100755 0:0",
		"/usr/libexec/reflinksr/reflinksr-metrics":        "100755 0:0",
		"/usr/libexec/reflinksr/srnbd":                    "100755 0:0",
		"/usr/libexec/reflinksr/reflinksr-smapiv1":        "100755 0:0",
		"/usr/sbin/srctl":                                 "100755 0:0",
		"/usr/bin/srtest":                                 "100755 0:0",
		"/usr/share/man/man8/reflinksr.8.gz":              "100644 0:0",
		"/usr/share/man/man8/reflinksr-metrics.8.gz":      "100644 0:0",
		"/usr/share/man/man8/srctl.8.gz":                  "100644 0:0",
		"/usr/share/man/man1/srtest.1.gz":                 "100644 0:0",
		"/usr/share/bash-completion/completions/srctl":    "100644 0:0",
		"/usr/share/fish/vendor_completions.d/srctl.fish": "100644 0:0",
		unit: "100644 0:0",
		"/etc/systemd/system/multi-user.target.wants/reflinksr-metrics.service": "120777 0:0 " + unit,
		"/etc/xensource/bugtool/reflinksr.xml":                                  "100644 0:0",
		"/etc/xensource/bugtool/reflinksr":                                      "40755 0:0",
		"/etc/xensource/bugtool/reflinksr/stuff.xml":                            "100644 0:0",
	}
	maps.Copy(want, documents)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	want["/usr/share/doc/reflinksr/README.md"], want["/usr/share/doc/reflinksr/docs"] = "100644 0:0", "40755 0:0"
	for _, page := range pages {
		want["/usr/share/doc/reflinksr/docs/"+filepath.Base(page)] = "100644 0:0"
	}
	elsewhere := t.TempDir()
	output(t, exec.Command(filepath.Join(h.root, program), "install", "--root", elsewhere))
	for _, dir := range []string{volumeDir, dataDir} {
		below := strings.TrimPrefix(dir, pluginRoot)
		entries, err := os.ReadDir(elsewhere + below)
		if err != nil || len(entries) < 5 {
			t.Fatal(entries, err)
		}
		want[dir] = "40755 0:0"
		for _, e := range entries {
			want[dir+"/"+e.Name()] = describe(t, filepath.Join(elsewhere+below, e.Name()))
		}
		if string(read(t, filepath.Join(h.root, dir, "reflinksr"))) != string(read(t, filepath.Join(elsewhere+below, "reflinksr"))) {
			t.Errorf("%s has another program", dir)
		}
	}
	have := h.ours(t)
	for path, is := range have {
		if want[path] == "" && regexp.MustCompile(`^/usr/share/man/man8/srctl-[a-z-]+\.8\.gz$`).MatchString(path) {
			want[path] = "100644 0:0"
		}
		if want[path] != is {
			t.Errorf("%s is %s, not %q", path, is, want[path])
		}
	}
	for path := range want {
		if have[path] == "" {
			t.Errorf("%s is missing", path)
		}
	}
}

// checkVersion asks both plugins, the programs and the package manager.
func (h host) checkVersion(t *testing.T, manager, plugins string) {
	t.Helper()
	if got := h.version(t); got != manager {
		t.Errorf("the package manager has %s, not %s", got, manager)
	}
	for _, dir := range []string{volumeDir, dataDir} {
		if said := h.in(t, dir+"/Plugin.query", "dbg"); !strings.Contains(said, `"version":"`+plugins+`"`) {
			t.Errorf("%s is not of %s: %s", dir, plugins, said)
		}
	}
	for _, path := range []string{program, "/usr/sbin/srctl", "/usr/bin/srtest"} {
		if said := h.in(t, path, "version"); !strings.Contains(said, " "+manager+" (") {
			t.Errorf("%s is not of %s: %s", path, manager, said)
		}
	}
}

// checkNothing looks for what a removal has left, or taken from others.
func (h host) checkNothing(t *testing.T) {
	t.Helper()
	if left := h.ours(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	entries, err := filepath.Glob(filepath.Join(h.root, pluginRoot, "*/*"))
	if want := []string{filepath.Join(h.root, pluginRoot, "volume/org.example.other")}; err != nil || !slices.Equal(entries, want) {
		t.Errorf("the toolstack's directory has %v, %v", entries, err)
	}
}

// refusesRemoval has an SR attached: then the package stays as it is, and the reason is told.
func (h host) refusesRemoval(t *testing.T) {
	t.Helper()
	before := h.ours(t)
	note := filepath.Join(h.root, "run/reflinksr/sr/a26d67c6-7ed0-4bfa-b4e0-0ca2e5a85d59.json")
	if err := os.MkdirAll(filepath.Dir(note), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(note, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := *h.remove
	said, err := again.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "1 SRs are attached on this host, the first is a26d67c6") {
		t.Errorf("removed while an SR is attached: %v\n%s", err, said)
	}
	if err := os.RemoveAll(filepath.Join(h.root, "run/reflinksr")); err != nil {
		t.Fatal(err)
	}
	if after := h.ours(t); len(after) != len(before) {
		t.Errorf("of %d files %d are left", len(before), len(after))
	}
}

// full upgrades a host whose plugins' filesystem has no space for new directories: the upgrade is whole but for these,
// the old ones work, and what the error tells to type puts it right.
func full(t *testing.T, h host, older, newer string) {
	plugins := filepath.Join(h.root, pluginRoot)
	mount := func(flags uintptr, options string) {
		t.Helper()
		if err := unix.Mount("none", plugins, "tmpfs", flags, options); err != nil {
			t.Fatal(err)
		}
	}
	mount(0, "size=16m,mode=755")
	defer unix.Unmount(plugins, unix.MNT_DETACH)
	h.install(t, older)
	h.checkVersion(t, "1.0.0-1", "1.0.0-1")
	before := h.ours(t)

	said := h.install(t, newer)
	need := regexp.MustCompile(`no space left on device; nothing that is installed below /usr/libexec/xapi-storage-script has changed: free (\d+) MiB there, then run: (.*)`).FindStringSubmatch(said)
	if need == nil || strings.Contains(said, "scriptlet") { // has failed, says rpm
		t.Fatalf("the upgrade said: %s", said)
	}
	h.checkVersion(t, "1.0.1-2", "1.0.0-1")
	if after := h.ours(t); len(after) != len(before) {
		t.Errorf("%v, before %v", after, before)
	}
	null := filepath.Join(h.root, "dev/null") // for a program that it starts
	if err := errors.Join(os.Mkdir(filepath.Dir(null), 0o755), os.WriteFile(null, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	advice, _ := h.command("/usr/sbin/srctl", "doctor").CombinedOutput() // of much that is missing in here
	if !strings.Contains(string(advice), "by: "+program+" install\n") {
		t.Errorf("srctl doctor says: %s", advice)
	}

	mount(unix.MS_REMOUNT, "size=32m")
	h.in(t, strings.Fields(need[2])...)
	h.checkVersion(t, "1.0.1-2", "1.0.1-2")
}
