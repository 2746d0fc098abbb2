package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// diskLabel is the label of the filesystems that SR.create makes.
const diskLabel = "reflinksr"

// locate finds the disk that carries the SR's filesystem, by what it carries: the name of
// a disk may be another's after a boot.
func (c Configuration) locate() (path string, sb superblock, err error) {
	found, sb, err := carriers(c.FilesystemUUID)
	switch {
	case err != nil:
		return "", sb, err
	case len(found) == 0:
		return "", sb, Errorf(ErrSRNotFound, c.Device, "no disk of this host carries the filesystem %s of SR %s; %s: is the disk connected?", c.FilesystemUUID, c.UUID, look(c.Device))
	case len(found) > 1:
		return "", sb, Errorf(ErrUnavailable, c.Device, "the filesystem %s of SR %s is on several disks, %s: one is a copy of the other: disconnect that, or give it another UUID (xfs_admin -U generate, btrfstune -u)", c.FilesystemUUID, c.UUID, strings.Join(found, " and "))
	case sb.devices > 1:
		return "", sb, Errorf(ErrUnsuitable, c.Device, "the btrfs on %s has %d devices: mount it yourself, and configure the SR by path", found[0], sb.devices)
	}
	if d, err := openDisk(c.Device); err != nil || d.path != found[0] {
		slog.Info("the SR's disk has another name now", "configured", c.Device, "device", found[0], "filesystem", c.FilesystemUUID)
	}
	return found[0], sb, nil
}

// look says what there is at a device's path.
func look(path string) string {
	d, err := openDisk(path)
	if errors.Is(err, os.ErrNotExist) {
		return path + " does not exist"
	}
	if err != nil {
		return err.Error()
	}
	defer d.Close()
	sb, err := d.superblock()
	switch {
	case err != nil:
		return err.Error()
	case sb.kind == "":
		return d.path + " carries neither XFS nor btrfs"
	}
	return fmt.Sprintf("%s carries the %s %s", d.path, sb.kind, sb.uuid)
}

// createOnDisk makes a filesystem on the device of the configuration and, by create, the
// SR in it. The filesystem has the SR's UUID: whoever repeats this after a crash finds what
// was made. It is mounted for nobody but this process, and only meanwhile.
func (c Configuration) createOnDisk(create func(root *Dir) error) error {
	d, err := openDisk(c.Device)
	if errors.Is(err, os.ErrNotExist) {
		return Errorf(ErrInvalid, "device", "%s does not exist: see lsblk", c.Device)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	// So that two creations exclude each other; and udev, which locks a disk to look at it,
	// does not look at half a filesystem.
	if err := flock(d.f, Exclusive, time.Now().Add(LockTimeout), false); err != nil {
		return lockError(d.f, d.path, err)
	}
	sb, err := d.superblock()
	if err != nil {
		return err
	}
	made := sb.uuid != c.UUID || sb.unfinished
	if made {
		if err := d.mayFormat(sb, c.Wipe, false); err != nil {
			return err
		}
		if err := d.format(c.Filesystem, c.UUID); err != nil {
			return err
		}
		sb.kind = c.Filesystem
	}
	err = c.inFilesystem(mountable{source: d.path, kind: sb.kind, flags: mountFlags, data: options(sb.kind)}, func(root *Dir) error {
		if made {
			if err := setMode(root.f, 0o700); err != nil {
				return err
			}
		} else if others, err := foreign(root); err != nil {
			return err
		} else if len(others) > 0 {
			return Errorf(ErrUnsuitable, d.path, "%s carries the filesystem of SR %s without the SR, but with %d other files, as %q: mount it, and move them away; or make another SR on it, with wipe=yes", d.path, c.UUID, len(others), shorten(others[0]))
		}
		return create(root)
	})
	if err != nil && made {
		err = errors.Join(err, d.unsign(c.UUID))
	}
	return err
}

// inFilesystem runs do with the root of the SR's filesystem, which is mounted privately if
// SR.attach has not mounted it already. The caller has the mount point locked. Messages
// call it by that.
func (c Configuration) inFilesystem(m mountable, do func(root *Dir) error) error {
	there, err := mountsAt(c.Path)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		if err := c.isAt(there); err != nil {
			return err
		}
		return c.createAtPath(do)
	}
	return m.peek(c.Path, do)
}

// mkfs are the programs that make filesystems, with the packages that have them. Nothing
// is on the disk any more, so they need not be told to overwrite it: if they find
// something all the same, they refuse.
var mkfs = map[string]struct {
	pack string
	args func(uuid string) []string
}{
	"xfs":   {"xfsprogs", func(uuid string) []string { return []string{"-q", "-L", diskLabel, "-m", "reflink=1,uuid=" + uuid} }},
	"btrfs": {"btrfs-progs", func(uuid string) []string { return []string{"-q", "-L", diskLabel, "-U", uuid} }},
}

// format makes a filesystem with that UUID on the disk.
func (d *disk) format(kind, uuid string) error {
	name, how := "mkfs."+kind, mkfs[kind]
	if _, err := findProgram(how.pack, name); err != nil {
		return err // before anything is lost
	}
	if err := d.clear(); err != nil {
		return fmt.Errorf("clearing %s: %w", d.path, err)
	}
	status, out, err := runProgram(how.pack, name, append(how.args(uuid), d.path)...)
	if err == nil && status != 0 {
		err = Errorf(ErrUnsuitable, d.path, "%s made no filesystem on %s, which is blank now: it failed with exit status %d: %s", name, d.path, status, oneLine(out))
	}
	if err != nil {
		return errors.Join(err, d.clear())
	}
	return nil
}

// kinds of devices that nobody makes an SR on, but that may be a guest's disk.
var guestDevices = []string{"loop", "ram", "zram", "nbd", "td", "sr", "fd", "drbd"}

// probeDisks lists the disks that could be an SR's device: those with a filesystem of our
// making, and blank ones. To say what is in the former it must be mounted, and what is on
// the latter blkid must be asked: with the device in the configuration that is done.
func probeDisks(conf map[string]string) (out []Candidate, err error) {
	err = disks(func(d *disk) error {
		info := map[string]string{"total_space": fmt.Sprint(d.size)}
		sb, err := d.superblock()
		switch {
		case err != nil:
			return nil
		case sb.label == diskLabel && !sb.unfinished:
			info["filesystem"], info["filesystem_uuid"] = sb.kind, sb.uuid
		case !d.looksBlank():
			return nil
		default:
			info["filesystem"] = "none"
		}
		configuration := known(conf)
		delete(configuration, "sr_uuid")
		configuration["device"] = d.path
		out = append(out, Candidate{Configuration: configuration, ExtraInfo: info})
		return nil
	})
	return out, err
}

// looksBlank says whether the disk is one that an SR could be made on, at a glance.
func (d *disk) looksBlank() bool {
	name := strings.TrimPrefix(d.path, "/dev/")
	if slices.ContainsFunc(guestDevices, func(kind string) bool { return strings.HasPrefix(name, kind) }) || len(d.partitions()) > 0 {
		return false
	}
	if mapped := read(d.sys + "/dm/uuid"); mapped != "" && !strings.HasPrefix(mapped, "mpath-") {
		return false // a logical volume
	}
	begin := make([]byte, 128<<10)
	if _, err := d.f.ReadAt(begin, 0); err != nil {
		return false
	}
	return len(strings.Trim(string(begin), "\x00")) == 0
}

// probeDevice answers SR.probe of a device.
func (c Configuration) probeDevice(conf map[string]string) (Candidate, error) {
	d, err := openDisk(c.Device)
	if errors.Is(err, os.ErrNotExist) {
		return Candidate{}, Errorf(ErrSRNotFound, c.Device, "%s does not exist: see lsblk", c.Device)
	}
	if err != nil {
		return Candidate{}, err
	}
	defer d.Close()
	sb, err := d.superblock()
	if err != nil {
		return Candidate{}, err
	}
	if c.FilesystemUUID != "" && sb.uuid != c.FilesystemUUID {
		return Candidate{}, Errorf(ErrSRNotFound, c.Device, "the filesystem %s was asked for; %s", c.FilesystemUUID, look(c.Device))
	}
	out := Candidate{Configuration: known(conf), Complete: true, ExtraInfo: map[string]string{"total_space": fmt.Sprint(d.size), "filesystem": "none"}}
	if sb.kind != "" && !sb.unfinished && sb.devices == 1 {
		found := false
		err := d.peek(sb, withoutLog[sb.kind], func(root *Dir) error {
			if _, err := readMeta(root); errors.Is(err, os.ErrNotExist) {
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
		return out, Errorf(ErrSRNotFound, c.Device, "%s carries no SR, and SR %s was asked for", c.Device, c.UUID)
	}
	return out, d.mayFormat(sb, c.Wipe, true)
}

// ofDisk completes the configuration of an SR that is on a disk.
func (o Candidate) ofDisk(sb superblock) Candidate {
	if o.Configuration != nil {
		o.Configuration = maps.Clone(o.Configuration)
		maps.DeleteFunc(o.Configuration, forCreate)
		o.Configuration["filesystem_uuid"] = sb.uuid
	}
	return o
}

// forCreate says whether a key of a configuration only says how SR.create makes something.
func forCreate(key, _ string) bool { return key == "wipe" || key == "filesystem" }
