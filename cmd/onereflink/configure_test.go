package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// oned.conf as several releases write it, with what must stay as it is.
const onedConf = `# TM_MAD = [ ARGUMENTS = "-d none" ]
TM_MAD = [
    EXECUTABLE = "one_tm",
    ARGUMENTS = "-t 15 -d dummy,lvm,shared,fs_lvm,qcow2,ssh,ceph,dev"
]
DATASTORE_MAD = [
    EXECUTABLE = "one_datastore",
    ARGUMENTS  = "-t 15 -d dummy,fs,lvm,ceph,dev -s shared,ssh,ceph -w 90 -i"
]
TM_MAD_CONF = [ NAME = "shared", SHARED = "YES" ]
`

const vmmExec = `LIVE_ACTIONS=yes
LIVE_DISK_SNAPSHOTS="kvm-qcow2 kvm-shared kvm-ceph"
`

// Configuring adds the driver to each list, once, and undoing it leaves the files as they were.
func TestConfigure(t *testing.T) {
	dir := t.TempDir()
	conf, exec := filepath.Join(dir, "oned.conf"), filepath.Join(dir, "vmm_execrc")
	for path, text := range map[string]string{conf: onedConf, exec: vmmExec} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var first string
	for range 2 {
		if err := configure(conf, exec, false); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = read(conf)
		}
	}
	got := read(conf)
	if got != first {
		t.Errorf("the second time it became\n%s", got)
	}
	for _, want := range []string{"qcow2,ssh,ceph,dev,reflink\"", "-d dummy,fs,lvm,ceph,dev,reflink -s shared,ssh,ceph,reflink -w 90 -i\"", "# TM_MAD = [ ARGUMENTS = \"-d none\" ]", settings} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if got := read(exec); !strings.Contains(got, "\"kvm-qcow2 kvm-shared kvm-ceph kvm-reflink\"") {
		t.Error(got)
	}
	if st, err := os.Stat(conf); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := configure(conf, exec, true); err != nil {
		t.Fatal(err)
	}
	if read(conf) != onedConf || read(exec) != vmmExec {
		t.Errorf("undone it is\n%s%s", read(conf), read(exec))
	}
	if err := os.WriteFile(conf, []byte("PORT = 2633\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := configure(conf, exec, false); err == nil || read(conf) != "PORT = 2633\n" || read(exec) != vmmExec {
		t.Errorf("a file without sections: %v", err)
	}
}

// What the add-on says for each release by hand is what configure writes, but for what a release does not know or has more.
func TestSnippets(t *testing.T) {
	assignment := regexp.MustCompile(`[A-Z_]+ = "[^"]*"`)
	known := map[string]bool{}
	for _, a := range assignment.FindAllString(settings, -1) {
		known[a] = true
	}
	for release, but := range map[string]string{"5.12": `DS_MIGRATE_SNAP = "YES"`, "6.x": "", "7.x": ""} {
		data, err := os.ReadFile("../../addons/opennebula/oned.conf/" + release + ".conf")
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]bool{}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			for _, a := range assignment.FindAllString(line, -1) {
				has[a] = true
				if !known[a] && a != `DS_LIVE_MIGRATE = "NO"` {
					t.Errorf("%s has %s, which configure does not write", release, a)
				}
			}
		}
		for a := range known {
			if !has[a] && a != but {
				t.Errorf("%s lacks %s", release, a)
			}
		}
		if strings.Count(string(data), ",reflink") != 3 || !strings.Contains(string(data), "kvm-reflink") {
			t.Errorf("%s does not say which lists there are", release)
		}
	}
}
