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

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/program"
	"reflinksr/internal/sys"
)

// diskLabel is the label of the filesystems that SR.create makes.
const diskLabel = "reflinksr"

// onDisks is a filesystem and the disks that carry it: one, or several of btrfs.
type onDisks struct {
	sb    superblock
	disks []looked
}

// mountable has the kernel told of all the disks, since each tells of itself alone.
func (o onDisks) mountable(more ...string) mountable {
	for _, other := range o.disks[1:] {
		more = append(more, "device="+other.Path)
	}
	return mountable{source: o.disks[0].Path, kind: o.sb.kind, flags: mountFlags, data: options(o.sb.kind, more...)}
}

// locate finds the disks that carry the SR's filesystem, by what they carry: the name of a
// disk may be another's after a boot.
func (c Configuration) locate() (onDisks, error) {
	// A name that is the disk's own cannot be a copy's: then nobody else needs to be asked.
	if ownName(c.Device) {
		if l, err := lookAt("disk", c.Device, spinUp); err == nil && c.carries(l) && l.sb.devices == 1 && !isHeld(l.Path) && l.taken(stayingUsers) == "" {
			return onDisks{l.sb, []looked{l}}, nil
		}
	}
	a, err := lookAround()
	if err != nil {
		return onDisks{}, err
	}
	found := c.carriers(a)
	found, taken := leaveTaken(found)
	if len(found) == 0 {
		// It sleeps, perhaps, or is the disk of a guest and has no business here.
		l, err := lookAt("disk", c.Device, spinUp)
		switch {
		case isShortage(err):
			return onDisks{}, err
		case fault.IsIO(err), errors.Is(err, errOwner):
			return onDisks{}, fmt.Errorf("whether %s carries the filesystem %s of SR %s cannot be told: %w", c.Device, c.FilesystemUUID, c.UUID, err)
		case err == nil && c.carries(l) && l.taken(stayingUsers) == "":
			found = append(found, l)
		default:
			return onDisks{}, fault.Errorf(fault.ErrSRNotFound, c.Device, "no disk of this host carries the filesystem %s of SR %s; %s: is the disk connected?%s%s", c.FilesystemUUID, c.UUID, describeLook(c.Device, l, err), taken, a.silence())
		}
	}
	o, err := c.whichOf(found, a)
	if err == nil && !slices.ContainsFunc(o.disks, func(l looked) bool { return samePath(c.Device, l.Dev) }) {
		slog.Info("the SR's disk has another name now", "configured", c.Device, "device", o.disks[0].Path, "filesystem", c.FilesystemUUID)
	}
	return o, err
}

// leaveTaken leaves those that somebody else has, and says which, for the end of a sentence.
func leaveTaken(found []looked) (left []looked, said string) {
	for _, l := range found {
		if taken := l.taken(stayingUsers); taken != "" {
			slog.Warn("a disk that carries a filesystem of an SR is left out", "device", l.Path, "since", taken)
			said += fmt.Sprintf("; %s carries it, and is left out: it is %s", l.Path, taken)
			continue
		}
		left = append(left, l)
	}
	return left, said
}

// taken says that a disk is not this host's to mount, in words that go on "it is …", though
// nothing that it is made of is anybody's: somebody writes to it, or it is a guest's by
// another path. "" if neither is so.
func (l looked) taken(users func(dev uint64) []string) string {
	if isMountedForSR(l.Path, l.Dev) {
		return ""
	}
	if other := l.guestsPath(users); other != "" {
		return other
	}
	if users := users(l.Dev); len(users) > 0 {
		return "in use by " + strings.Join(users, ", ")
	}
	return ""
}

// carries says whether a disk of this host carries the SR's filesystem.
func (c Configuration) carries(l looked) bool {
	return l.Owner == "" && l.Member == "" && l.sb.uuid == c.FilesystemUUID && !l.sb.unfinished
}

func (c Configuration) carriers(a around) (found []looked) {
	for _, l := range a.disks {
		if c.carries(l) {
			found = append(found, l)
		}
	}
	return found
}

// whichOf tells apart what several disks with the filesystem are: one disk that is seen by
// several paths, of which one is taken; the disks that a btrfs is spread over, which all
// are needed; or copies, of which nobody knows which is the SR.
func (c Configuration) whichOf(found []looked, a around) (o onDisks, err error) {
	byID := map[uint64]looked{}
	for _, l := range found {
		other, there := byID[l.sb.devid]
		if !there {
			byID[l.sb.devid] = l
			continue
		}
		if l.Same == "" || l.Same != other.Same || l.Size != other.Size || !sameBlocks(l, other) {
			return o, fault.Errorf(fault.ErrUnavailable, c.Device, "the filesystem %s%s is on several disks, %s and %s: one is a copy of the other: %s. If both are paths to one disk, which do not say so: set up multipath", c.FilesystemUUID, c.ofSR(), other.describe(), l.describe(), l.sb.whenCopied())
		}
		slog.Info("an SR's disk has several names", "device", other.Path, "also", l.Path, "identity", l.Same)
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		l := byID[id]
		o.disks = append(o.disks, l)
		if l.sb.generation >= o.sb.generation {
			o.sb = l.sb // what the newest says counts
		}
	}
	there, want := uint64(len(o.disks)), o.sb.devices
	switch {
	case there < want:
		return o, fault.Errorf(fault.ErrUnavailable, c.Device, "the btrfs %s%s is spread over %d disks, and %s missing: there is %s: connect all of them; btrfs filesystem show tells more%s", c.FilesystemUUID, c.ofSR(), want, o.missing(want), o.describe(), a.silence())
	case there > want:
		return o, fault.Errorf(fault.ErrUnavailable, c.Device, "the btrfs %s%s has %d disks, and %d say that they are of it: %s: disconnect what was taken out of it, or is a copy", c.FilesystemUUID, c.ofSR(), want, there, o.describe())
	}
	return o, nil
}

// sameBlocks says whether two names of a disk show the same. They were not looked at in one
// moment, and a filesystem that is just being mounted or unmounted writes: once more, then.
func sameBlocks(l, other looked) bool {
	for try := 0; !l.Blocks.equal(other.Blocks); try++ {
		if try == 3 {
			return false
		}
		time.Sleep(100 * time.Millisecond)
		now := lookAtAll("disk", []string{l.Path, other.Path})
		if now[0].err != nil || now[1].err != nil {
			return false
		}
		l, other = now[0].looked, now[1].looked
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
		each = append(each, fmt.Sprintf("%s (disk %d)", l.Path, l.sb.devid))
	}
	return strings.Join(each, ", ")
}

// describe tells a disk from others.
func (l looked) describe() string {
	if l.Same == "" {
		return l.Path
	}
	return fmt.Sprintf("%s (%s)", l.Path, fault.Shorten(l.Same))
}

// samePath says whether a path leads to that device.
func samePath(path string, dev uint64) bool {
	found, err := blockDevice(path)
	return err == nil && found == dev
}

// ownName says whether a name of a device is made of what its disk says of itself: not of
// what is written on it, nor of the order in which it was found.
func ownName(path string) bool {
	name, by := strings.CutPrefix(path, "/dev/disk/by-id/")
	return by && slices.ContainsFunc([]string{"wwn-", "scsi-", "nvme-", "ata-", "virtio-", "usb-", "mmc-", "dm-uuid-mpath-"}, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// describeLook says what there is at a device's path.
func describeLook(path string, l looked, err error) string {
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
	case l.sb.kind == "":
		return l.Path + " carries neither XFS nor btrfs"
	}
	return fmt.Sprintf("%s carries the %s %s", l.Path, l.sb.kind, l.sb.uuid)
}

// openDevice opens the device of the configuration, once it has answered: what does not
// would hold this process up for ever.
func (c Configuration) openDevice() (*disk, looked, error) {
	if _, err := os.Stat(c.Device); errors.Is(err, os.ErrNotExist) {
		return nil, looked{}, err
	}
	l, err := lookAt("disk", c.Device, spinUp)
	if errors.Is(err, errMute) {
		return nil, l, err
	}
	if err == nil && l.Owner == "" {
		l.Owner = l.guestsPath(stayingUsers)
	}
	if err == nil && l.Owner != "" {
		return nil, l, notOurs(c.Device, l.Owner)
	}
	if fault.IsIO(err) || errors.Is(err, errOwner) {
		return nil, l, err
	}
	d, err := openDisk(c.Device)
	return d, l, err
}

// createOnDisk makes a filesystem on the device of the configuration and, by create, the
// SR in it. The filesystem has the SR's UUID: whoever repeats this after a crash finds what
// was made. It is mounted for nobody but this process, and only meanwhile.
func (c Configuration) createOnDisk(create func(root *dirfs.Dir) error) error {
	d, _, err := c.openDevice()
	if errors.Is(err, os.ErrNotExist) {
		return fault.Errorf(fault.ErrInvalid, "device", "%s does not exist: see lsblk", c.Device)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	// So that two creations exclude each other; and udev, which locks a disk to look at it,
	// does not look at half a filesystem.
	if err := dirfs.Flock(d.f, dirfs.Exclusive, time.Now().Add(dirfs.LockTimeout), false); err != nil {
		return dirfs.LockError(d.f, d.path, err)
	}
	sb, err := d.superblock()
	if err != nil {
		return err
	}
	made := sb.uuid != c.UUID || sb.unfinished
	if made {
		same, err := d.mayFormat(sb, c.Wipe, false)
		if err != nil {
			return err
		}
		if err := d.format(c.Filesystem, c.UUID, same); err != nil {
			return err
		}
		sb.kind = c.Filesystem
	}
	m := mountable{source: d.path, kind: sb.kind, flags: mountFlags, data: options(sb.kind)}
	if !made && sb.devices > 1 {
		o, err := c.locate()
		if err != nil {
			return err
		}
		m = o.mountable()
	}
	err = c.inFilesystem(m, func(root *dirfs.Dir) error {
		if made {
			if err := dirfs.SetMode(root.File(), 0o700); err != nil {
				return err
			}
		} else if others, err := foreign(root); err != nil {
			return err
		} else if len(others) > 0 {
			return fault.Errorf(fault.ErrUnsuitable, d.path, "%s carries the filesystem of SR %s without the SR, but with %d other files, as %q: mount it, and move them away; or make another SR on it, with wipe=yes", d.path, c.UUID, len(others), fault.Shorten(others[0]))
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
func (c Configuration) inFilesystem(m mountable, do func(root *dirfs.Dir) error) error {
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

// format makes a filesystem with that UUID on the disk, if it is still the same.
func (d *disk) format(kind, uuid string, same func() error) error {
	name, how := "mkfs."+kind, mkfs[kind]
	if _, err := program.Find(how.pack, name); err != nil {
		return err // before anything is lost
	}
	if err := d.clear(same); err != nil {
		return fmt.Errorf("clearing %s: %w", d.path, err)
	}
	var status int
	var out string
	err := alone(d.path, func() (err error) {
		status, out, err = program.Run(how.pack, name, append(how.args(uuid), d.path)...)
		return err
	})
	if err == nil && status != 0 {
		err = fault.Errorf(fault.ErrUnsuitable, d.path, "%s made no filesystem on %s, which is blank now: it failed with exit status %d: %s", name, d.path, status, program.OneLine(out))
	}
	if err != nil {
		return errors.Join(err, d.clear(func() error { return nil })) // of what mkfs left
	}
	return nil
}

// kinds of devices that nobody makes an SR on, but that may be a guest's disk.
var guestDevices = []string{"loop", "ram", "zram", "nbd", "td", "sr", "fd", "drbd"}

// probeDisks lists the disks that could be an SR's device: those with a filesystem of our
// making, and blank ones. To say what is in the former it must be mounted, and what is on
// the latter blkid must be asked: with the device in the configuration that is done.
func probeDisks(conf map[string]string) (out []Candidate, err error) {
	a, err := lookAround()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, l := range a.disks {
		info := map[string]string{"total_space": fmt.Sprint(l.Size)}
		switch {
		case l.Member != "" || l.Same != "" && seen[l.Same]:
			continue // one disk, or half of one
		case (l.sb.label == diskLabel && !l.sb.unfinished || l.Blank) && l.taken(deviceUsers) != "":
			continue // somebody else's
		case l.sb.label == diskLabel && !l.sb.unfinished:
			info["filesystem"], info["filesystem_uuid"] = l.sb.kind, l.sb.uuid
			if l.sb.devices > 1 {
				info["disks"] = fmt.Sprintf("%d, of which this is disk %d", l.sb.devices, l.sb.devid)
			}
		case !l.Blank:
			continue
		default:
			info["filesystem"] = "none"
		}
		if len(a.mute) > 0 {
			info["not_answering"] = strings.Join(a.mute, ", ")
		}
		seen[l.Same] = true
		configuration := known(conf)
		delete(configuration, "sr_uuid")
		configuration["device"] = l.Path
		out = append(out, Candidate{Configuration: configuration, ExtraInfo: info})
	}
	return out, nil
}

// looksBlank says whether the disk is one that an SR could be made on, at a glance.
func (d *disk) looksBlank() bool {
	name := strings.TrimPrefix(d.path, "/dev/")
	if slices.ContainsFunc(guestDevices, func(kind string) bool { return strings.HasPrefix(name, kind) }) || len(d.partitions()) > 0 {
		return false
	}
	if mapped := sys.Text(d.sys + "/dm/uuid"); mapped != "" && !strings.HasPrefix(mapped, "mpath-") {
		return false // a logical volume
	}
	at, err := d.firstByte(128 << 10)
	return err == nil && at < 0
}

// probeDevice answers SR.probe of a device.
func (c Configuration) probeDevice(conf map[string]string) (Candidate, error) {
	d, l, err := c.openDevice()
	if errors.Is(err, os.ErrNotExist) {
		return Candidate{}, fault.Errorf(fault.ErrSRNotFound, c.Device, "%s does not exist: see lsblk", c.Device)
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
		return Candidate{}, fault.Errorf(fault.ErrSRNotFound, c.Device, "the filesystem %s was asked for; %s", c.FilesystemUUID, describeLook(c.Device, l, nil))
	}
	out := Candidate{Configuration: known(conf), Complete: true, ExtraInfo: map[string]string{"total_space": fmt.Sprint(d.size), "filesystem": "none"}}
	if sb.kind != "" && !sb.unfinished {
		others, err := c.otherDisks(sb)
		if err != nil {
			return Candidate{}, err
		}
		found := false
		err = d.peek(sb, withoutLog[sb.kind], others, func(root *dirfs.Dir) error {
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
		return out, fault.Errorf(fault.ErrSRNotFound, c.Device, "%s carries no SR, and SR %s was asked for", c.Device, c.UUID)
	}
	_, err = d.mayFormat(sb, c.Wipe, true)
	return out, err
}

// otherDisks are those that the btrfs on the disk of the configuration is spread over as
// well, as mount options.
func (c Configuration) otherDisks(sb superblock) (options []string, err error) {
	if sb.devices == 1 {
		return nil, nil
	}
	c.FilesystemUUID = sb.uuid
	o, err := c.locate()
	for _, l := range o.disks {
		options = append(options, "device="+l.Path)
	}
	return options, err
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
