package sr

import (
	"log/slog"
	"os"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/mountinfo"
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
	for i, answer := range blockdev.LookAtAll("mount", paths) {
		if blockdev.IsShortage(answer.Err) {
			return nil, answer.Err
		}
		if answer.Err != nil {
			slog.Warn("what is mounted cannot be looked at", "path", paths[i], "err", answer.Err)
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

// reflinkMounts picks the mount points of filesystems that can share blocks out
// of /proc/self/mountinfo (proc_pid_mountinfo(5)), the visible one where several
// are mounted over each other.
func reflinkMounts(table string) []string {
	var order []string
	kind := map[string]string{}
	for _, e := range mountinfo.Parse(table) {
		if _, seen := kind[e.Path]; !seen {
			order = append(order, e.Path)
		}
		kind[e.Path] = e.Kind
	}
	var out []string
	for _, path := range order {
		if k := kind[path]; k == "btrfs" || k == "xfs" || k == "ocfs2" {
			out = append(out, path)
		}
	}
	return out
}
