package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
)

// Mounted is the note of a filesystem that this plugin has mounted, or is about to, for
// an SR on this boot of this host. Only what is noted is ever unmounted. It is not a part
// of the note of the attached SR because it comes before that, and goes after it: an
// attach or a detach that was killed leaves one without the other.
type Mounted struct {
	Source
	UUID string `json:"uuid"`           // of the SR
	Over bool   `json:"over,omitempty"` // the filesystem of a destroyed SR is about to go
}

// Configuration is the configuration of the SR that is mounted there.
func (m Mounted) Configuration() Configuration {
	c := Configuration{Source: m.Source}
	c.Complete(m.UUID)
	return c
}

// WithNote runs do with the directory of these notes, and the SR's mount point locked.
func WithNote(uuid string, do func(notes *dirfs.Dir) error) error {
	notes, err := rundir.Open("mount")
	if err != nil {
		return err
	}
	defer notes.Close()
	return attached.Noted(notes, uuid, "the mount point of SR "+uuid, func() error { return do(notes) })
}

// ReadNote reads the note about an SR: os.ErrNotExist if we have mounted nothing for it.
func ReadNote(notes *dirfs.Dir, uuid string) (m Mounted, err error) {
	data, err := notes.Read(uuid+".json", record.Limit)
	if err != nil {
		return m, err
	}
	return parseMounted(data, uuid)
}

func parseMounted(data []byte, uuid string) (m Mounted, err error) {
	err = json.Unmarshal(data, &m)
	if err == nil && (m.UUID != uuid || !m.Mounts()) {
		err = errors.New("it is of something else")
	}
	if err != nil {
		return Mounted{}, fmt.Errorf("what is noted of the filesystem of SR %s in %s/mount/%s.json is damaged: attach the SR again: %w", uuid, rundir.Path, uuid, err)
	}
	return m, nil
}

func (m Mounted) save(notes *dirfs.Dir) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return notes.Publish(m.UUID+".json", data)
}

// Mount mounts the SR's filesystem at its mount point. One that is there stays, and is
// still not ours if somebody else has mounted it.
func (c Configuration) Mount(notes *dirfs.Dir) error {
	there, err := mountinfo.At(c.Path)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		if err := c.isAt(there); err != nil {
			return err
		}
		return c.isConnected(there[0])
	}
	m, err := c.mountable()
	if err != nil {
		return err
	}
	if err := (Mounted{Source: c.Source, UUID: c.UUID}).save(notes); err != nil {
		return err
	}
	if err := mountFor(m, c.UUID); err != nil {
		mount.RemovePoint(c.UUID)
		return errors.Join(err, notes.Remove(c.UUID+".json"))
	}
	return nil
}

// mountFor mounts m at the SR's mount point.
func mountFor(m mount.Spec, uuid string) error {
	point, err := mount.OpenPoint(uuid)
	if err != nil {
		return err
	}
	defer point.Close()
	if err := dirfs.SetMode(point.File(), 0o700); err != nil {
		return err
	}
	return m.Mount(point)
}

// mountable finds out what mount(2) is to be told.
func (c Configuration) mountable() (mount.Spec, error) {
	if c.Server != "" {
		ip, err := resolve(c.Server)
		return c.mountableExport(ip), err
	}
	o, err := c.locate()
	if err != nil {
		return mount.Spec{}, err
	}
	return o.mountable(), nil
}

// isAt says whether the mounts at a place are the filesystem of the configuration, and
// no other.
func (c Configuration) isAt(there []mountinfo.Entry) error {
	foreign := func(why string) error {
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Path, "%s is taken: %s", c.Path, why),
			"unmount that first")
	}
	top := there[len(there)-1]
	if len(there) > 1 {
		return foreign(fmt.Sprintf("%s (%s) is mounted over what was there", top.Source, top.Kind))
	}
	if c.Server != "" {
		if top.Source != c.export() {
			return foreign(fmt.Sprintf("%s is mounted there, not %s", top.Source, c.export()))
		}
		return nil
	}
	root, err := dirfs.OpenDir(c.Path)
	if errors.Is(err, unix.EIO) {
		return nil // its disk has died, and who detaches the SR must get rid of it
	}
	if err != nil {
		return err
	}
	defer root.Close()
	fs, err := filesystem.Of(root)
	if err != nil {
		return err
	}
	if fs.UUID != c.FilesystemUUID {
		return foreign(fmt.Sprintf("%s %s is mounted there, not %s", fs.Type, fs.UUID, c.FilesystemUUID))
	}
	if top.Root != "/" {
		return foreign(fmt.Sprintf("only %s of the filesystem %s is mounted there, and the SR is in its top directory", top.Root, fs.UUID))
	}
	return nil
}

// isConnected refuses a filesystem whose disk is the host's no more, though it is mounted
// still: it was taken away under the mount, or is a guest's.
func (c Configuration) isConnected(m mountinfo.Entry) error {
	if c.Device == "" {
		return nil
	}
	gone := fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Device, "%s, on which SR %s is, is gone from this host, and there only as long as the SR is mounted", m.Source, c.UUID),
		"detach the SR, connect the disk, and attach it again")
	number := m.Device
	if strings.HasPrefix(number, "0:") { // btrfs has none of its own
		number = sys.Text("/sys/class/block/" + blockdev.SysName(m.Source) + "/dev")
		if dev, err := blockdev.Number(m.Source); err == nil {
			number = fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
		}
	}
	dev, err := blockdev.ParseNumber(number)
	if err != nil {
		return gone
	}
	owner, err := blockdev.OwnerOf(dev, true)
	if err != nil {
		return err
	}
	if owner != "" {
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, c.Path, "%s is taken: %s is mounted there, which is no disk of this host: it is %s", c.Path, m.Source, owner),
			"unmount that first")
	}
	// A loop device that was detached in use stays until its last close.
	if _, err := os.Stat(blockdev.SysOf(dev)); errors.Is(err, os.ErrNotExist) || strings.TrimSpace(sys.Text(blockdev.SysOf(dev)+"/loop/autoclear")) == "1" {
		return gone
	}
	return nil
}

// Unmount undoes mount, if we have mounted it. A disk with nothing on it but a destroyed
// SR's filesystem becomes blank.
func Unmount(notes *dirfs.Dir, uuid string) error {
	m, err := ReadNote(notes, uuid)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := m.Configuration()
	there, err := mountinfo.At(c.Path)
	if err != nil {
		return err
	}
	if len(there) == 0 && m.Over {
		// An earlier attempt unmounted it. Is it still there, and still over?
		if err := c.Mount(notes); err != nil {
			slog.Info("a destroyed SR's filesystem is not there any more", "device", c.Device, "err", err)
			if err := c.blankRest(); err != nil {
				slog.Error("the disk of a destroyed SR is not blank", "device", c.Device, "err", err)
			}
		} else if there, err = mountinfo.At(c.Path); err != nil {
			return err
		}
	}
	if len(there) > 0 {
		if err := c.isAt(there); err != nil {
			return err
		}
		m.Over = c.OwnsFilesystem() && isOver(c)
		if err := m.save(notes); err != nil {
			return err
		}
		if err := mount.Unmount(c.Path); err != nil {
			return err
		}
		if m.Over {
			if err := c.blank(there[0].Source); err != nil {
				slog.Error("the disk of a destroyed SR is not blank", "device", there[0].Source, "err", err)
			}
		}
	}
	mount.RemovePoint(uuid)
	return notes.Remove(uuid + ".json")
}

// isOver says whether of the SR, and of anything else, there is nothing left in its
// filesystem but the mark that it was destroyed.
func isOver(c Configuration) bool {
	over, err := func() (bool, error) {
		root, err := dirfs.OpenDir(c.Path)
		if err != nil {
			return false, err
		}
		defer root.Close()
		m, err := layout.ReadDestroyed(root)
		if err != nil || m == nil || m.UUID != c.UUID {
			return false, err
		}
		names, err := root.Names()
		return err == nil && len(names) == 1, err
	}()
	if err != nil { // a disk that has died is unmounted all the same
		slog.Error("whether anything is left of an SR cannot be told, so its disk is not made blank", "path", c.Path, "err", err)
	}
	return over
}

// blank makes the disks that the SR's filesystem was on blank.
func (c Configuration) blank(device string) error {
	d, err := blockdev.Open(device)
	if err != nil {
		return err
	}
	defer d.Close()
	sb, err := d.ReadSuperblock()
	if err != nil || sb.Devices == 1 {
		return errors.Join(err, d.Unsign(c.FilesystemUUID))
	}
	o, err := c.locate()
	if err != nil {
		return err
	}
	// All of them end before any is blank: of what is left nobody takes a part for a
	// filesystem whose other disks are missing.
	if err := o.each(func(d *blockdev.Disk) error { return d.Unfinish(c.FilesystemUUID) }); err != nil {
		return err
	}
	return o.each(func(d *blockdev.Disk) error { return d.Unsign(c.FilesystemUUID) })
}

func (o onDisks) each(do func(*blockdev.Disk) error) error {
	for _, l := range o.disks {
		d, err := blockdev.Open(l.Path)
		if err != nil {
			return err
		}
		err = do(d)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// blankRest finishes what a blank began that was killed.
func (c Configuration) blankRest() error {
	a, err := blockdev.Around()
	if err != nil {
		return err
	}
	a.Disks = slices.DeleteFunc(a.Disks, func(l blockdev.Look) bool {
		return l.Member != "" || l.Super.UUID != c.FilesystemUUID || !l.Super.Unfinished
	})
	return onDisks{disks: a.Disks}.each(func(d *blockdev.Disk) error { return d.Unsign(c.FilesystemUUID) })
}

// RemoveNote unmounts what was mounted for an SR that did not become attached.
func RemoveNote(notes *dirfs.Dir, uuid string) {
	if _, err := attached.Lookup(uuid); !errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := Unmount(notes, uuid); err != nil {
		slog.Error("a filesystem stays mounted for an SR that is not attached", "path", mount.Point(uuid), "err", err)
	}
}
