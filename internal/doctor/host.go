package doctor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/hostinfo"
	"reflinksr/internal/sys"
	"reflinksr/internal/track"
	"reflinksr/internal/units"
)

func lookAtKernel() Finding { return judgeKernel(hostinfo.ThisKernel()) }

// judgeKernel knows what kernels lack that matters here.
func judgeKernel(k hostinfo.Kernel) Finding {
	f := Finding{What: "kernel", Verdict: Fine, Text: fmt.Sprintf("Linux %d.%d", k.Major, k.Minor)}
	switch {
	case k == hostinfo.Kernel{}:
		f.Verdict, f.Text, f.Remedy = Bad, "its version cannot be told", "SRs need Linux 4.19 or later"
	case !k.AtLeast(4, 19):
		f.Verdict, f.Remedy = Bad, "SRs need Linux 4.19 or later"
	case !k.AtLeast(5, 4):
		f.Verdict = Note
		f.Text += ": disks on XFS have no direct I/O, for a clone of one may not be of one moment before Linux 5.4"
	}
	return f
}

func lookAtIdentity() Finding { return judgeIdentity(hostinfo.ThisHost()) }

func judgeIdentity(h hostinfo.Host, err error) Finding {
	f := Finding{What: "identity", Verdict: Fine, Text: "the host is " + h.UUID}
	switch {
	case err != nil:
		f.Verdict, f.Text, f.Remedy = Bad, err.Error(), "the toolstack's inventory must name the host: look at /etc/xensource-inventory"
	case h.Nameless():
		f.Verdict, f.Text = Note, "the host has no UUID of its own, neither in /etc/xensource-inventory nor in /etc/machine-id: it cannot have an SR that hosts share"
		f.Remedy = "run systemd-machine-id-setup"
	}
	return f
}

func lookAtLoops() Finding {
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return judgeLoops(err)
}

func judgeLoops(err error) Finding {
	f := Finding{What: "loop devices", Verdict: Fine, Text: "they can be made"}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrPermission):
		f.Verdict, f.Text, f.Remedy = Note, "whether they can be made only root can tell", "run this as root"
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		f.Verdict, f.Text, f.Remedy = Bad, "the kernel has none: no disk can be attached", "load the module: modprobe loop"
	default:
		f.Verdict, f.Text = Bad, err.Error()
	}
	return f
}

func lookAtTracing() Finding { return judgeTracing(track.Able()) }

func judgeTracing(err error) Finding {
	f := Finding{What: "block trace", Verdict: Fine, Text: "disks in use are cloned in pieces, and a guest does not wait for its snapshot"}
	if err != nil {
		f.Verdict, f.Remedy = Note, "the kernel needs the events block_rq_issue and block_rq_complete (CONFIG_BLK_DEV_IO_TRACE), and must not be locked down"
		f.Text = "disks cannot be traced: a guest waits as long as its snapshot takes (" + err.Error() + ")"
		if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
			f.Text, f.Remedy = "whether disks can be traced only root can tell", "run this as root"
		}
	}
	return f
}

// Below so much room, in bytes and in inodes, a package or a note may not fit.
const (
	leastRoom   = 64 << 20
	leastInodes = 1000
)

func lookAtRoom(path string) Finding {
	var st unix.Statfs_t
	err := sys.Do(func() error { return unix.Statfs(path, &st) })
	// #nosec G115 -- a block's size is a small number
	return judgeRoom(path, st.Bavail*uint64(st.Frsize), st.Ffree, st.Files > 0, err)
}

// judgeRoom judges the free bytes and inodes at a path. Some filesystems, btrfs say, do not count inodes.
func judgeRoom(path string, free, inodes uint64, counted bool, err error) Finding {
	f := Finding{What: "room in " + path, Verdict: Fine, Text: units.Bytes(int64(min(free, 1<<62))) + " are free"} // #nosec G115 -- bounded
	switch {
	case err != nil:
		f.Verdict, f.Text = Bad, err.Error()
	case free < leastRoom:
		f.Verdict, f.Text = Bad, "only "+f.Text+": a call that cannot write its note is refused"
		f.Remedy = "make room"
	case counted && inodes < leastInodes:
		f.Verdict, f.Text = Bad, fmt.Sprintf("only %d inodes are free: a call that cannot write its note is refused", inodes)
		f.Remedy = "remove files that nobody needs"
	}
	return f
}

func lookAtSELinux() Finding {
	text, err := os.ReadFile("/sys/fs/selinux/enforce")
	return judgeSELinux(string(text), err)
}

func judgeSELinux(enforce string, err error) Finding {
	f := Finding{What: "SELinux", Verdict: Fine, Text: "it does not enforce anything"}
	if err == nil && len(enforce) > 0 && enforce[0] == '1' {
		f.Verdict, f.Text = Note, "it enforces its policy, which may keep the toolstack from starting the plugin"
		f.Remedy = "after installing: restorecon -R /usr/libexec/xapi-storage-script; what is refused: ausearch -m avc -ts recent"
	}
	return f
}
