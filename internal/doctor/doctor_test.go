package doctor

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/hostinfo"
	"reflinksr/internal/track"
)

// A host that lacks something is told what, and what to do.
func TestVerdicts(t *testing.T) {
	enforced := func(text string) Finding { return judgeSELinux(text, nil) }
	pathError := func(errno unix.Errno) error { return &os.PathError{Op: "open", Path: "/dev/loop-control", Err: errno} }
	for _, c := range []struct {
		name    string
		is      Finding
		verdict Verdict
		says    string
	}{
		{"a kernel of today", judgeKernel(hostinfo.Kernel{Major: 6, Minor: 12}), Fine, "Linux 6.12"},
		{"that of XCP-ng 8.3", judgeKernel(hostinfo.Kernel{Major: 4, Minor: 19}), Note, "no direct I/O"},
		{"one that is too old", judgeKernel(hostinfo.Kernel{Major: 4, Minor: 18}), Bad, "4.19 or later"},
		{"one that nobody can tell", judgeKernel(hostinfo.Kernel{}), Bad, "4.19 or later"},
		{"a host of a pool", judgeIdentity(hostinfo.Host{UUID: "a", Boot: "b"}, nil), Fine, "a"},
		{"a host without a name", judgeIdentity(hostinfo.Host{UUID: "b", Boot: "b"}, nil), Note, "systemd-machine-id-setup"},
		{"a broken inventory", judgeIdentity(hostinfo.Host{}, errors.New("no INSTALLATION_UUID")), Bad, "/etc/xensource-inventory"},
		{"loop devices", judgeLoops(nil), Fine, ""},
		{"no loop devices", judgeLoops(pathError(unix.ENOENT)), Bad, "modprobe loop"},
		{"a node without a driver", judgeLoops(pathError(unix.ENODEV)), Bad, "modprobe loop"},
		{"loop devices, for somebody else", judgeLoops(pathError(unix.EACCES)), Note, "run this as root"},
		{"a loop driver that fails", judgeLoops(pathError(unix.EIO)), Bad, "input/output error"},
		{"a trace", judgeTracing(nil), Fine, "does not wait"},
		{"no trace", judgeTracing(track.ErrUnsupported), Note, "CONFIG_BLK_DEV_IO_TRACE"},
		{"room", judgeRoom("/", 1<<30, 0, false, nil), Fine, "1 GiB"},
		{"a full filesystem", judgeRoom("/", 1<<20, 5000, true, nil), Bad, "make room"},
		{"no inodes", judgeRoom("/", 1<<30, 3, true, nil), Bad, "only 3 inodes"},
		{"a dead filesystem", judgeRoom("/", 0, 0, false, unix.EIO), Bad, "input/output error"},
		{"no SELinux", judgeSELinux("", os.ErrNotExist), Fine, ""},
		{"SELinux that watches", enforced("0"), Fine, ""},
		{"SELinux", enforced("1"), Note, "restorecon"},
		{"mkfs", judgeProgram("mkfs.btrfs", "btrfs-progs", "nothing", nil), Fine, ""},
		{"no mkfs", judgeProgram("mkfs.btrfs", "btrfs-progs", "an SR on a device cannot have btrfs", errors.New("not there")), Note, "install the package btrfs-progs"},
		{"mkfs.xfs", judgeMkfsXFS("[-m reflink=0|1,bigtime=0|1]", nil), Fine, "it is installed"},
		{"an old mkfs.xfs", judgeMkfsXFS("[-m crc=0|1]", nil), Fine, "too old to know reflink"},
		{"no mkfs.xfs", judgeMkfsXFS("", errors.New("not there")), Fine, "gets an XFS without it"},
	} {
		if c.is.Verdict != c.verdict || !strings.Contains(c.is.Text+" "+c.is.Remedy, c.says) || c.is.What == "" || c.is.Text == "" {
			t.Errorf("%s: %+v, want %s and %q", c.name, c.is, c.verdict, c.says)
		}
		if c.is.Verdict == Fine && c.is.Remedy != "" {
			t.Errorf("%s: what is fine needs no remedy: %+v", c.name, c.is)
		}
	}
}

// A filesystem may be there, be loaded when it is needed, or be nowhere.
func TestFilesystems(t *testing.T) {
	for _, c := range []struct {
		known      string
		modules    []string
		xfs, btrfs Verdict
	}{
		{"nodev\tproc\n\txfs\n\tbtrfs\n", nil, Fine, Fine},
		{"\txfs\n", nil, Fine, Note},
		{"nodev\tproc\n", []string{"loop", "xfs"}, Fine, Note},
		{"nodev\tproc\n", []string{"loop"}, Bad, Bad},
	} {
		all := judgeFilesystems(c.known, c.modules, nil)
		if all[0].Verdict != c.xfs || all[1].Verdict != c.btrfs {
			t.Errorf("%q, %q: %+v", c.known, c.modules, all)
		}
	}
	if all := judgeFilesystems("", nil, unix.EIO); Worst(all) != Bad {
		t.Errorf("what cannot be read is %+v", all)
	}
}

// depmod's list has paths with the module's name in them, compressed or not.
func TestLoadable(t *testing.T) {
	dir := t.TempDir()
	text := "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/drivers/block/loop.ko:\n"
	if err := os.WriteFile(dir+"/modules.dep", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(loadable(dir), " "); got != "xfs loop" {
		t.Errorf("got %q", got)
	}
	if got := loadable(dir + "/nowhere"); got != nil {
		t.Errorf("got %q of nothing", got)
	}
}

// This host, whatever it has: every finding says something, and nothing is said twice.
func TestHost(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Host() {
		if f.What == "" || f.Text == "" || seen[f.What] {
			t.Errorf("%+v", f)
		}
		seen[f.What] = true
		t.Logf("%-14s %-5s %s; %s", f.What, f.Verdict, f.Text, f.Remedy)
	}
	if len(seen) < 12 {
		t.Errorf("only %d things were looked at", len(seen))
	}
}
