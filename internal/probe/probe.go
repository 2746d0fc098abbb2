package probe

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/source"
)

// SR lists what could be asked for, in steps: without a path, device or server, the mounted
// filesystems that can share blocks and the disks that could be an SR's, as incomplete
// configurations; with one, either a complete configuration for a new SR, or the SR that
// is there. It changes nothing.
func SR(conf map[string]string) ([]Candidate, error) {
	for _, s := range source.Kinds {
		if _, given := conf[s.Key]; given {
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
	c, err := source.Parse(conf)
	if err != nil {
		return out, err
	}
	if c.Device != "" {
		return probeDevice(c, conf)
	}
	look := func(root *dirfs.Dir) error {
		out, err = inspect(root, c, conf)
		return err
	}
	if c.Server != "" {
		err = c.PeekExport(look)
		return out, err
	}
	root, err := source.OpenPath(c.Path)
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

// probeDisks lists the disks that could be an SR's device: those with a filesystem of our
// making, and blank ones. To say what is in the former it must be mounted, and what is on
// the latter blkid must be asked: with the device in the configuration that is done.
func probeDisks(conf map[string]string) (out []Candidate, err error) {
	a, err := blockdev.Around()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, l := range a.Disks {
		info := map[string]string{"total_space": fmt.Sprint(l.Size)}
		switch {
		case l.Member != "" || l.Same != "" && seen[l.Same]:
			continue // one disk, or half of one
		case (l.Super.Label == layout.DiskLabel && !l.Super.Unfinished || l.Blank) && source.TakenBy(l, blockdev.Users) != "":
			continue // somebody else's
		case l.Super.Label == layout.DiskLabel && !l.Super.Unfinished:
			info["filesystem"], info["filesystem_uuid"] = l.Super.Kind, l.Super.UUID
			if l.Super.Devices > 1 {
				info["disks"] = fmt.Sprintf("%d, of which this is disk %d", l.Super.Devices, l.Super.DeviceID)
			}
		case !l.Blank:
			continue
		default:
			info["filesystem"] = "none"
		}
		if len(a.Mute) > 0 {
			info["not_answering"] = strings.Join(a.Mute, ", ")
		}
		seen[l.Same] = true
		configuration := known(conf)
		delete(configuration, "sr_uuid")
		configuration["device"] = l.Path
		out = append(out, Candidate{Configuration: configuration, ExtraInfo: info})
	}
	return out, nil
}

// probeDevice is probeSource of a device.
func probeDevice(c source.Configuration, conf map[string]string) (Candidate, error) {
	d, l, err := c.OpenDevice()
	if errors.Is(err, os.ErrNotExist) {
		return Candidate{}, fault.Hint(fault.Errorf(fault.ErrSRNotFound, c.Device, "%s does not exist", c.Device),
			"see lsblk")
	}
	if err != nil {
		return Candidate{}, err
	}
	defer d.Close()
	sb, err := d.ReadSuperblock()
	if err != nil {
		return Candidate{}, err
	}
	if c.FilesystemUUID != "" && sb.UUID != c.FilesystemUUID {
		return Candidate{}, fault.Errorf(fault.ErrSRNotFound, c.Device, "the filesystem %s was asked for; %s", c.FilesystemUUID, source.DescribeLook(c.Device, l, nil))
	}
	out := Candidate{Configuration: known(conf), Complete: true, ExtraInfo: map[string]string{"total_space": fmt.Sprint(d.Size()), "filesystem": "none"}}
	if sb.Kind != "" && !sb.Unfinished {
		others, err := c.OtherDisks(sb)
		if err != nil {
			return Candidate{}, err
		}
		found := false
		err = mount.PeekDisk(d, sb, mount.WithoutLog[sb.Kind], others, func(root *dirfs.Dir) error {
			if _, err := layout.ReadMeta(root); errors.Is(err, os.ErrNotExist) {
				return nil
			}
			found = true
			out, err = inspect(root, c, conf)
			return err
		})
		if err != nil || found {
			return out.ofDisk(sb), err
		}
	}
	if c.UUID != "" {
		return out, fault.Errorf(fault.ErrSRNotFound, c.Device, "%s carries no SR, and SR %s was asked for", c.Device, c.UUID)
	}
	_, err = overwrite.MayFormat(d, sb, c.Wipe, true)
	return out, err
}

// ofDisk completes the configuration of an SR that is on a disk.
func (o Candidate) ofDisk(sb blockdev.Superblock) Candidate {
	if o.Configuration != nil {
		o.Configuration = maps.Clone(o.Configuration)
		maps.DeleteFunc(o.Configuration, source.ForCreate)
		o.Configuration["filesystem_uuid"] = sb.UUID
	}
	return o
}
