package doctor

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/program"
	"reflinksr/internal/xfs"
)

// lookAtFilesystems tells which of the filesystems that share blocks the kernel knows, or could load.
func lookAtFilesystems() []Finding {
	known, err := os.ReadFile("/proc/filesystems")
	var name unix.Utsname
	if err == nil {
		err = unix.Uname(&name)
	}
	modules := filepath.Join("/lib/modules", unix.ByteSliceToString(name.Release[:]))
	return judgeFilesystems(string(known), loadable(modules), err)
}

// loadable lists the kernel's modules by name, as far as depmod has listed them.
func loadable(dir string) (names []string) {
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		file, _, _ := strings.Cut(lines.Text(), ":")
		name, _, _ := strings.Cut(path.Base(file), ".ko")
		names = append(names, name)
	}
	return names
}

func judgeFilesystems(known string, modules []string, err error) []Finding {
	if err != nil {
		return []Finding{{What: "filesystems", Verdict: Bad, Text: err.Error()}}
	}
	var all []Finding
	some := false
	for _, kind := range []string{"xfs", "btrfs"} {
		f := Finding{What: kind, Verdict: Fine, Text: "the kernel has it"}
		switch {
		case slices.Contains(strings.Fields(known), kind):
			some = true
		case slices.Contains(modules, kind):
			some = true
			f.Text = "the kernel can load it"
		default:
			f.Verdict, f.Text = Note, "the kernel does not have it: no SR can be on "+kind
		}
		all = append(all, f)
	}
	if !some {
		for i := range all {
			all[i].Verdict, all[i].Remedy = Bad, "SRs need a kernel with XFS or btrfs, or an NFS 4.2 export of one"
		}
	}
	return all
}

// tools are the programs that calls start, and what cannot be done without them.
var tools = []struct{ name, pack, without string }{
	{"mkfs.btrfs", "btrfs-progs", "an SR on a device cannot have btrfs"},
	{"blkid", "util-linux", "no SR can be made on a device: nothing tells whether the device is blank"},
	{"getent", "glibc-common (or libc-bin)", "the server of an export can be given by its address only"},
}

func lookAtPrograms() (all []Finding) {
	_, usage, err := program.Run("xfsprogs", "mkfs.xfs") // without arguments it tells what it can do, and fails
	all = append(all, judgeMkfsXFS(usage, err))
	for _, tool := range tools {
		_, err := program.Find(tool.pack, tool.name)
		all = append(all, judgeProgram(tool.name, tool.pack, tool.without, err))
	}
	return all
}

// judgeMkfsXFS says how SRs on a device get their XFS. They do in any case.
func judgeMkfsXFS(usage string, err error) Finding {
	f := Finding{What: "mkfs.xfs", Verdict: Fine}
	_, able := xfs.MkfsOptions(usage)
	switch {
	case err != nil:
		f.Text = "it is not installed, and an SR on a device of 512 MiB and more gets an XFS without it"
	case !able:
		f.Text = "it is too old to know reflink, and an SR on a device of 512 MiB and more gets an XFS without it"
	default:
		f.Text = "it is installed, and makes the XFS of SRs on a device"
	}
	return f
}

func judgeProgram(name, pack, without string, err error) Finding {
	if err == nil {
		return Finding{What: name, Verdict: Fine, Text: "it is installed"}
	}
	return Finding{What: name, Verdict: Note, Text: "it is not installed: " + without, Remedy: "install the package " + pack}
}
