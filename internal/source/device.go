package source

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/mount"
)

// onDisks is a filesystem and the disks that carry it: one, or several of btrfs.
type onDisks struct {
	sb    blockdev.Superblock
	disks []blockdev.Look
}

// mountable has the kernel told of all the disks, since each tells of itself alone.
func (o onDisks) mountable(more ...string) mount.Spec {
	for _, other := range o.disks[1:] {
		more = append(more, "device="+other.Path)
	}
	return mount.Spec{Source: o.disks[0].Path, Kind: o.sb.Kind, Flags: mount.Flags, Data: mount.Options(o.sb.Kind, more...)}
}

// locate finds the disks that carry the SR's filesystem, by what they carry: the name of a
// disk may be another's after a boot.
func (c Configuration) locate() (onDisks, error) {
	// A name that is the disk's own cannot be a copy's: then nobody else needs to be asked.
	if ownName(c.Device) {
		if l, err := blockdev.LookAt("disk", c.Device, blockdev.SpinUp); err == nil && c.carries(l) && l.Super.Devices == 1 && !blockdev.IsHeld(l.Path) && TakenBy(l, mount.StayingUsers) == "" {
			return onDisks{l.Super, []blockdev.Look{l}}, nil
		}
	}
	a, err := blockdev.Around()
	if err != nil {
		return onDisks{}, err
	}
	found := c.carriers(a)
	found, taken := leaveTaken(found)
	if len(found) == 0 {
		// It sleeps, perhaps, or is the disk of a guest and has no business here.
		l, err := blockdev.LookAt("disk", c.Device, blockdev.SpinUp)
		switch {
		case blockdev.IsShortage(err):
			return onDisks{}, err
		case fault.IsIO(err), errors.Is(err, blockdev.ErrOwner):
			return onDisks{}, fmt.Errorf("whether %s carries the filesystem %s of SR %s cannot be told: %w", c.Device, c.FilesystemUUID, c.UUID, err)
		case err == nil && c.carries(l) && TakenBy(l, mount.StayingUsers) == "":
			found = append(found, l)
		default:
			return onDisks{}, fault.Hint(fault.Errorf(fault.ErrSRNotFound, c.Device, "no disk of this host carries the filesystem %s of SR %s; %s", c.FilesystemUUID, c.UUID, DescribeLook(c.Device, l, err)),
				"is the disk connected?%s%s", taken, a.Silence())
		}
	}
	o, err := c.whichOf(found, a)
	if err == nil && !slices.ContainsFunc(o.disks, func(l blockdev.Look) bool { return samePath(c.Device, l.Dev) }) {
		slog.Info("the SR's disk has another name now", "configured", c.Device, "device", o.disks[0].Path, "filesystem", c.FilesystemUUID)
	}
	return o, err
}

// leaveTaken leaves those that somebody else has, and says which, for the end of a sentence.
func leaveTaken(found []blockdev.Look) (left []blockdev.Look, said string) {
	for _, l := range found {
		if taken := TakenBy(l, mount.StayingUsers); taken != "" {
			slog.Warn("a disk that carries a filesystem of an SR is left out", "device", l.Path, "since", taken)
			said += fmt.Sprintf("; %s carries it, and is left out: it is %s", l.Path, taken)
			continue
		}
		left = append(left, l)
	}
	return left, said
}

// TakenBy says that a disk is not this host's to mount, in words that go on "it is …", though
// nothing that it is made of is anybody's: somebody writes to it, or it is a guest's by
// another path. "" if neither is so.
func TakenBy(l blockdev.Look, users func(dev uint64) []string) string {
	if mount.IsMountedForSR(l.Path, l.Dev) {
		return ""
	}
	if other := l.GuestsPath(users); other != "" {
		return other
	}
	if users := users(l.Dev); len(users) > 0 {
		return "in use by " + strings.Join(users, ", ")
	}
	return ""
}

// carries says whether a disk of this host carries the SR's filesystem.
func (c Configuration) carries(l blockdev.Look) bool {
	return l.Owner == "" && l.Member == "" && l.Super.UUID == c.FilesystemUUID && !l.Super.Unfinished
}

func (c Configuration) carriers(a blockdev.Surroundings) (found []blockdev.Look) {
	for _, l := range a.Disks {
		if c.carries(l) {
			found = append(found, l)
		}
	}
	return found
}

// whichOf tells apart what several disks with the filesystem are: one disk that is seen by
// several paths, of which one is taken; the disks that a btrfs is spread over, which all
// are needed; or copies, of which nobody knows which is the SR.
func (c Configuration) whichOf(found []blockdev.Look, a blockdev.Surroundings) (o onDisks, err error) {
	byID := map[uint64]blockdev.Look{}
	for _, l := range found {
		other, there := byID[l.Super.DeviceID]
		if !there {
			byID[l.Super.DeviceID] = l
			continue
		}
		if l.Same == "" || l.Same != other.Same || l.Size != other.Size || !sameBlocks(l, other) {
			return o, fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Device, "the filesystem %s%s is on several disks, %s and %s: one is a copy of the other: %s. If both are paths to one disk, which do not say so", c.FilesystemUUID, c.ofSR(), describeFound(other), describeFound(l), whenCopied(l.Super)),
				"set up multipath")
		}
		slog.Info("an SR's disk has several names", "device", other.Path, "also", l.Path, "identity", l.Same)
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		l := byID[id]
		o.disks = append(o.disks, l)
		if l.Super.Generation >= o.sb.Generation {
			o.sb = l.Super // what the newest says counts
		}
	}
	there, want := uint64(len(o.disks)), o.sb.Devices
	switch {
	case there < want:
		return o, fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Device, "the btrfs %s%s is spread over %d disks, and %s missing: there is %s", c.FilesystemUUID, c.ofSR(), want, o.missing(want), o.describe()),
			"connect all of them; btrfs filesystem show tells more%s", a.Silence())
	case there > want:
		return o, fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Device, "the btrfs %s%s has %d disks, and %d say that they are of it: %s", c.FilesystemUUID, c.ofSR(), want, there, o.describe()),
			"disconnect what was taken out of it, or is a copy")
	}
	return o, nil
}

// sameBlocks says whether two names of a disk show the same. They were not looked at in one
// moment, and a filesystem that is just being mounted or unmounted writes: once more, then.
func sameBlocks(l, other blockdev.Look) bool {
	for try := 0; !l.Blocks.Equal(other.Blocks); try++ {
		if try == 3 {
			return false
		}
		time.Sleep(100 * time.Millisecond)
		now := blockdev.LookAtAll("disk", []string{l.Path, other.Path})
		if now[0].Err != nil || now[1].Err != nil {
			return false
		}
		l, other = now[0].Look, now[1].Look
	}
	return true
}

func isOrAre(what []string) string {
	if len(what) == 1 {
		return what[0] + " is"
	}
	return strings.Join(what, ", ") + " are"
}

func (o onDisks) describe() string {
	var each []string
	for _, l := range o.disks {
		each = append(each, fmt.Sprintf("%s (disk %d)", l.Path, l.Super.DeviceID))
	}
	return strings.Join(each, ", ")
}

// describeFound tells a disk from others.
func describeFound(l blockdev.Look) string {
	if l.Same == "" {
		return l.Path
	}
	return fmt.Sprintf("%s (%s)", l.Path, fault.Shorten(l.Same))
}

// samePath says whether a path leads to that device.
func samePath(path string, dev uint64) bool {
	found, err := blockdev.Number(path)
	return err == nil && found == dev
}

// ownName says whether a name of a device is made of what its disk says of itself: not of
// what is written on it, nor of the order in which it was found.
func ownName(path string) bool {
	name, by := strings.CutPrefix(path, "/dev/disk/by-id/")
	return by && slices.ContainsFunc([]string{"wwn-", "scsi-", "nvme-", "ata-", "virtio-", "usb-", "mmc-", "dm-uuid-mpath-"}, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// DescribeLook says what was seen of a device that does not carry what was asked for.
func DescribeLook(path string, l blockdev.Look, err error) string {
	if _, gone := os.Stat(path); errors.Is(gone, os.ErrNotExist) {
		return path + " does not exist"
	}
	switch {
	case err != nil:
		return err.Error()
	case l.Owner != "":
		return l.Path + " is " + l.Owner
	case l.Member != "":
		return l.Path + " is " + l.Member
	case l.Super.Kind == "":
		return l.Path + " carries neither XFS nor btrfs"
	}
	return fmt.Sprintf("%s carries the %s %s", l.Path, l.Super.Kind, l.Super.UUID)
}

// OpenDevice opens the device of the configuration, once it has answered: what does not
// would hold this process up for ever.
func (c Configuration) OpenDevice() (*blockdev.Disk, blockdev.Look, error) {
	if _, err := os.Stat(c.Device); errors.Is(err, os.ErrNotExist) {
		return nil, blockdev.Look{}, err
	}
	l, err := blockdev.LookAt("disk", c.Device, blockdev.SpinUp)
	if errors.Is(err, blockdev.ErrMute) {
		return nil, l, err
	}
	if err == nil && l.Owner == "" {
		l.Owner = l.GuestsPath(mount.StayingUsers)
	}
	if err == nil && l.Owner != "" {
		return nil, l, blockdev.NotOurs(c.Device, l.Owner)
	}
	if fault.IsIO(err) || errors.Is(err, blockdev.ErrOwner) {
		return nil, l, err
	}
	d, err := blockdev.Open(c.Device)
	return d, l, err
}

// OtherDisks are those that the btrfs on the disk of the configuration is spread over as
// well, as mount options.
func (c Configuration) OtherDisks(sb blockdev.Superblock) (options []string, err error) {
	if sb.Devices == 1 {
		return nil, nil
	}
	c.FilesystemUUID = sb.UUID
	o, err := c.locate()
	for _, l := range o.disks {
		options = append(options, "device="+l.Path)
	}
	return options, err
}
