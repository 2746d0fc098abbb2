package sr

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// mounted is the note of a filesystem that this plugin has mounted, or is about to, for
// an SR on this boot of this host. Only what is noted is ever unmounted. It is not a part
// of the note of the attached SR because it comes before that, and goes after it: an
// attach or a detach that was killed leaves one without the other.
type mounted struct {
	Source
	UUID string `json:"uuid"`           // of the SR
	Over bool   `json:"over,omitempty"` // the filesystem of a destroyed SR is about to go
}

func (m mounted) configuration() Configuration {
	c := Configuration{Source: m.Source}
	c.settle(m.UUID)
	return c
}

// withMount runs do with the directory of these notes, and the SR's mount point locked.
func withMount(uuid string, do func(notes *Dir) error) error {
	notes, err := Runtime("mount")
	if err != nil {
		return err
	}
	defer notes.Close()
	lock, err := notes.Lock(uuid+".lock", "the mount point of SR "+uuid)
	if err != nil {
		return err
	}
	defer lock.Discard()
	return do(notes)
}

// readMounted reads the note about an SR: os.ErrNotExist if we have mounted nothing for it.
func readMounted(notes *Dir, uuid string) (m mounted, err error) {
	data, err := notes.Read(uuid+".json", recordLimit)
	if err != nil {
		return m, err
	}
	return parseMounted(data, uuid)
}

func parseMounted(data []byte, uuid string) (m mounted, err error) {
	err = json.Unmarshal(data, &m)
	if err == nil && (m.UUID != uuid || !m.mounts()) {
		err = errors.New("it is of something else")
	}
	if err != nil {
		return mounted{}, fmt.Errorf("what is noted of the filesystem of SR %s in %s/mount/%s.json is damaged: attach the SR again: %w", uuid, RuntimeDir, uuid, err)
	}
	return m, nil
}

func (m mounted) save(notes *Dir) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return notes.Publish(m.UUID+".json", data)
}

// mount mounts the SR's filesystem at its mount point. One that is there stays, and is
// still not ours if somebody else has mounted it.
func (c Configuration) mount(notes *Dir) error {
	there, err := mountsAt(c.Path)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return c.isAt(there)
	}
	m, err := c.mountable()
	if err != nil {
		return err
	}
	if err := (mounted{Source: c.Source, UUID: c.UUID}).save(notes); err != nil {
		return err
	}
	if err := m.mountFor(c.UUID); err != nil {
		removeMountPoint(c.UUID)
		return errors.Join(err, notes.Remove(c.UUID+".json"))
	}
	return nil
}

// mountFor mounts m at the SR's mount point.
func (m mountable) mountFor(uuid string) error {
	point, err := openMountPoint(uuid)
	if err != nil {
		return err
	}
	defer point.Close()
	if err := setMode(point.f, 0o700); err != nil {
		return err
	}
	return m.mount(point)
}

// mountable finds out what mount(2) is to be told.
func (c Configuration) mountable() (mountable, error) {
	if c.Server != "" {
		ip, err := resolve(c.Server)
		return c.mountableExport(ip), err
	}
	path, sb, err := c.locate()
	return mountable{source: path, kind: sb.kind, flags: mountFlags}, err
}

// isAt says whether the mounts at a place are the filesystem of the configuration, and
// no other.
func (c Configuration) isAt(there []mountEntry) error {
	foreign := func(why string) error {
		return Errorf(ErrUnavailable, c.Path, "%s is taken: %s: unmount that first", c.Path, why)
	}
	top := there[len(there)-1]
	if len(there) > 1 {
		return foreign(fmt.Sprintf("%s (%s) is mounted over what was there", top.source, top.kind))
	}
	if c.Server != "" {
		if top.source != c.export() {
			return foreign(fmt.Sprintf("%s is mounted there, not %s", top.source, c.export()))
		}
		return nil
	}
	root, err := OpenDir(c.Path)
	if errors.Is(err, unix.EIO) {
		return nil // its disk has died, and who detaches the SR must get rid of it
	}
	if err != nil {
		return err
	}
	defer root.Close()
	fs, err := root.Filesystem()
	if err != nil {
		return err
	}
	if fs.UUID != c.FilesystemUUID {
		return foreign(fmt.Sprintf("%s %s is mounted there, not %s", fs.Type, fs.UUID, c.FilesystemUUID))
	}
	return nil
}

// unmount undoes mount, if we have mounted it. A disk with nothing on it but a destroyed
// SR's filesystem becomes blank.
func unmount(notes *Dir, uuid string) error {
	m, err := readMounted(notes, uuid)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := m.configuration()
	there, err := mountsAt(c.Path)
	if err != nil {
		return err
	}
	if len(there) == 0 && m.Over {
		// An earlier attempt unmounted it. Is it still there, and still over?
		if err := c.mount(notes); err != nil {
			slog.Info("a destroyed SR's filesystem is not there any more", "device", c.Device, "err", err)
		} else if there, err = mountsAt(c.Path); err != nil {
			return err
		}
	}
	if len(there) > 0 {
		if err := c.isAt(there); err != nil {
			return err
		}
		m.Over = c.whole() && isOver(c)
		if err := m.save(notes); err != nil {
			return err
		}
		if err := unmountPath(c.Path); err != nil {
			return err
		}
		if m.Over {
			if err := c.blank(there[0].source); err != nil {
				slog.Error("the disk of a destroyed SR is not blank", "device", there[0].source, "err", err)
			}
		}
	}
	removeMountPoint(uuid)
	return notes.Remove(uuid + ".json")
}

// isOver says whether of the SR, and of anything else, there is nothing left in its
// filesystem but the mark that it was destroyed.
func isOver(c Configuration) bool {
	over, err := func() (bool, error) {
		root, err := OpenDir(c.Path)
		if err != nil {
			return false, err
		}
		defer root.Close()
		m, err := destroyed(root)
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

func (c Configuration) blank(device string) error {
	d, err := openDisk(device)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.unsign(c.FilesystemUUID)
}

// forgetMounted unmounts what was mounted for an SR that did not become attached.
func forgetMounted(notes *Dir, uuid string) {
	if _, err := lookup(uuid); !errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := unmount(notes, uuid); err != nil {
		slog.Error("a filesystem stays mounted for an SR that is not attached", "path", mountPoint(uuid), "err", err)
	}
}
