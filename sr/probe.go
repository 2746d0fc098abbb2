package sr

import (
	"log/slog"
	"os"
	"strconv"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
)

// ProbeSR answers SR.probe, in steps: without a path, device or server, the mounted
// filesystems that can share blocks and the disks that could be an SR's, as incomplete
// configurations; with one, either a complete configuration for a new SR, or the SR that
// is there. It changes nothing.
func ProbeSR(conf map[string]string) ([]Candidate, error) {
	for _, s := range sources {
		if _, given := conf[s.key]; given {
			candidate, err := probeSource(conf)
			if err != nil {
				return nil, err
			}
			return []Candidate{candidate}, nil
		}
	}
	paths, err := probeMounts(conf)
	if err != nil {
		return nil, err
	}
	devices, err := probeDisks(conf)
	return append(paths, devices...), err
}

func probeSource(conf map[string]string) (out Candidate, err error) {
	c, err := ParseConfiguration(conf)
	if err != nil {
		return out, err
	}
	if c.Device != "" {
		return c.probeDevice(conf)
	}
	look := func(root *dirfs.Dir) error {
		out, err = inspect(root, c, conf)
		return err
	}
	if c.Server != "" {
		err = c.peekExport(look)
		return out, err
	}
	root, err := openPath(c.Path)
	if err != nil {
		return out, err
	}
	defer root.Close()
	err = look(root)
	return out, err
}

// probeMounts lists the mounted filesystems.
func probeMounts(conf map[string]string) ([]Candidate, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	out := []Candidate{}
	paths := reflinkMounts(string(mounts))
	for i, answer := range lookAtAll("mount", paths) {
		if isShortage(answer.err) {
			return nil, answer.err
		}
		if answer.err != nil {
			slog.Warn("what is mounted cannot be looked at", "path", paths[i], "err", answer.err)
			continue
		}
		if answer.Owner != "" || answer.Info == nil {
			continue
		}
		configuration := known(conf)
		delete(configuration, "sr_uuid")
		configuration["path"] = paths[i]
		out = append(out, Candidate{Configuration: configuration, ExtraInfo: answer.Info})
	}
	return out, nil
}

// lookAtMount looks at what is mounted at a path: at nothing if it cannot share blocks.
func lookAtMount(path string) (l looked, err error) {
	there, err := mountsAt(path)
	if err != nil || len(there) == 0 {
		return l, err
	}
	// btrfs has no number of its own here.
	if dev, err := blockDevice(there[len(there)-1].source); err == nil {
		if l.Owner, err = diskOwner(dev, true); err != nil || l.Owner != "" {
			return l, err
		}
	}
	root, err := dirfs.OpenDir(path)
	if err != nil {
		return l, err
	}
	defer root.Close()
	info := map[string]string{}
	if err := describeSpace(root, info); err != nil || !filesystem.MayShare(root) {
		return l, err
	}
	l.Info = info
	return l, nil
}

// reflinkMounts picks the mount points of filesystems that can share blocks out
// of /proc/self/mountinfo (proc_pid_mountinfo(5)), the visible one where several
// are mounted over each other.
func reflinkMounts(mountinfo string) []string {
	var order []string
	kind := map[string]string{}
	for _, e := range parseMountinfo(mountinfo) {
		if _, seen := kind[e.path]; !seen {
			order = append(order, e.path)
		}
		kind[e.path] = e.kind
	}
	var out []string
	for _, path := range order {
		if k := kind[path]; k == "btrfs" || k == "xfs" || k == "ocfs2" {
			out = append(out, path)
		}
	}
	return out
}

// unescape undoes the octal escapes (\040 for a blank) of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func describeSpace(d *dirfs.Dir, info map[string]string) error {
	fs, err := filesystem.Of(d)
	if err != nil {
		return err
	}
	total, free, err := filesystem.Space(d)
	info["filesystem"] = fs.Type
	info["filesystem_uuid"] = fs.UUID
	info["total_space"] = strconv.FormatInt(total, 10)
	info["free_space"] = strconv.FormatInt(free, 10)
	return err
}
