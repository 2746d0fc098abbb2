package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/mountinfo"
	"reflinksr/scripts/tests"
)

// A process leaves what systemd would end with the service, and nothing else.
func TestInside(t *testing.T) {
	const both = `31 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
32 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
`
	const service = "/system.slice/xapi-storage-script.service"
	for _, c := range []struct {
		groups, mounts string
		want           []string
	}{
		{"9:memory:" + service + "\n1:name=systemd:" + service + "\n0::" + service + "\n", both, []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}},
		{"1:name=systemd:" + service + "\n0::/\n", both, []string{"/sys/fs/cgroup/systemd"}},
		{"0::" + service + "\n", "31 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", []string{"/sys/fs/cgroup"}},
		{"0::" + service + "\n", "31 25 0:26 /container /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", nil},
		{"0::/\n", both, nil},
		{"no line\n", both, nil},
	} {
		if got := inside(c.groups, mountinfo.Parse(c.mounts)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.groups, got, c.want)
		}
	}
}

// A process in a service's group is not in it any more, outlives its end, and leaves no group behind.
func TestLeave(t *testing.T) {
	tests.Root(t, "making control groups")
	if dir := os.Getenv("CGROUP_TEST"); dir != "" {
		leave(t, dir)
		return
	}
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	service := filepath.Join(root, "reflinksr-test.service")
	if err := os.Mkdir(service, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestLeave$", "-test.v")
	c.Env = append(os.Environ(), "CGROUP_TEST="+service)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.Remove(service); err != nil {
		t.Errorf("somebody is still in the service's group: %v", err)
	}
}

func leave(t *testing.T, service string) {
	if err := enter(service); err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(service)
	name := "reflinksr-test-" + strconv.Itoa(os.Getpid())
	back, err := Leave(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile("/proc/self/cgroup"); !strings.Contains(string(got), "0::/"+name+"\n") {
		t.Errorf("in %s", got)
	}
	if procs, err := os.ReadFile(filepath.Join(service, "cgroup.procs")); err != nil || len(procs) > 0 {
		t.Errorf("in the service's group are %q, %v", procs, err)
	}
	back()
	if _, err := os.Stat(filepath.Join(root, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its group is left: %v", err)
	}
}
