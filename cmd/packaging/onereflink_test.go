package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// onedConf is what the front-end's configuration has that drivers are put into.
const onedConf = `TM_MAD = [
    EXECUTABLE = "one_tm",
    ARGUMENTS = "-t 15 -d dummy,lvm,shared,fs_lvm,qcow2,ssh,ceph,dev"
]
DATASTORE_MAD = [
    EXECUTABLE = "one_datastore",
    ARGUMENTS  = "-t 15 -d dummy,fs,lvm,ceph,dev -s shared,ssh,ceph"
]
`

// frontEnd does with the drivers what their README says, on an OpenNebula front-end: they are installed, configured, upgraded, and gone.
func frontEnd(t *testing.T, h host, older, newer string) {
	for _, name := range []string{"chown", "id", "dirname"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		copyTo(t, path, filepath.Join(h.root, "usr/bin", name))
		for _, library := range regexp.MustCompile(`/\S+`).FindAllString(output(t, exec.Command("ldd", path)), -1) {
			copyTo(t, library, filepath.Join(h.root, library))
		}
	}
	const driver = "/var/lib/one/remotes/tm/reflink/onereflink"
	for path, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/:/bin/sh\noneadmin:x:9869:9869::/var/lib/one:/bin/sh\n", "etc/one/oned.conf": onedConf,
		"etc/one/vmm_exec/vmm_execrc": "LIVE_DISK_SNAPSHOTS=\"kvm-qcow2 kvm-shared\"\n", "var/lib/one/remotes/VERSION": "7.4.0\n",
	} {
		path = filepath.Join(h.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	conf := func() string { return string(read(t, filepath.Join(h.root, "etc/one/oned.conf"))) }
	autoconf := func(args ...string) {
		t.Helper()
		h.in(t, append([]string{"/bin/sh", "-c", `AUTOCONF=1 /usr/libexec/onereflink/install.sh "$@"`, "sh"}, args...)...)
	}

	h.install(t, older)
	if said := h.in(t, driver, "version"); !strings.HasPrefix(said, "onereflink 1.0.0-1") {
		t.Errorf("the driver is %s", said)
	}
	for path, is := range map[string]string{driver: "100755 9869:9869", "/var/lib/one/remotes/tm/reflink/clone": "120777 9869:9869 onereflink", "/usr/libexec/onereflink/install.sh": "100755 0:0", "/usr/share/doc/onereflink/oned.conf/5.12.conf": "100644 0:0"} {
		if got := describe(t, filepath.Join(h.root, path)); got != is {
			t.Errorf("%s is %s", path, got)
		}
	}
	if conf() != onedConf {
		t.Error("installing alone changes the configuration")
	}
	autoconf()
	if got := conf(); strings.Count(got, ",reflink") != 3 || !strings.Contains(got, "TM_MAD_CONF") {
		t.Errorf("it is configured as\n%s", got)
	}
	h.install(t, newer)
	if said := h.in(t, driver, "version"); !strings.HasPrefix(said, "onereflink 1.0.1-2") {
		t.Errorf("after the upgrade the driver is %s", said)
	}
	autoconf("undo")
	if conf() != onedConf {
		t.Errorf("undone it is configured as\n%s", conf())
	}
	args := slices.Clone(h.remove.Args)
	args[len(args)-1] = "onereflink"
	output(t, exec.Command(args[0], args[1:]...))
	left := h.ours(t)
	for path := range left {
		t.Errorf("%s is left", path)
	}
	for _, dir := range []string{"tm", "datastore"} {
		if found, err := os.ReadDir(filepath.Join(h.root, "var/lib/one/remotes", dir)); err != nil || len(found) > 0 {
			t.Errorf("left in %s: %v, %v", dir, found, err)
		}
	}

	if err := os.RemoveAll(filepath.Join(h.root, "var/lib/one")); err != nil {
		t.Fatal(err)
	}
	h.install(t, older) // before OpenNebula
	if _, err := os.Stat(filepath.Join(h.root, "var/lib/one")); !os.IsNotExist(err) {
		t.Error("it makes directories of an OpenNebula that is not there")
	}
}
