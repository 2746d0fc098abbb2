package source

import (
	"errors"
	"os"
	"time"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/overwrite"
	"reflinksr/internal/xfs"
)

// CreateAtPath runs create with the directory of the configuration, open.
func (c Configuration) CreateAtPath(create func(root *dirfs.Dir) error) error {
	root, err := OpenPath(c.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	return create(root)
}

// CreateOnExport runs create with the root of the export, which is mounted for that.
func (c Configuration) CreateOnExport(create func(root *dirfs.Dir) error) error {
	m, err := c.mountable()
	if err != nil {
		return err
	}
	return c.inFilesystem(m, create)
}

// CreateOnDisk makes a filesystem on the device of the configuration and, by create, the
// SR in it. The filesystem has the SR's UUID: whoever repeats this after a crash finds what
// was made. It is mounted for nobody but this process, and only meanwhile.
func (c Configuration) CreateOnDisk(create func(root *dirfs.Dir) error) error {
	d, _, err := c.OpenDevice()
	if errors.Is(err, os.ErrNotExist) {
		return fault.Hint(fault.Errorf(fault.ErrInvalid, "device", "%s does not exist", c.Device),
			"see lsblk")
	}
	if err != nil {
		return err
	}
	defer d.Close()
	// So that two creations exclude each other; and udev, which locks a disk to look at it,
	// does not look at half a filesystem.
	if err := dirfs.Flock(d.File(), dirfs.Exclusive, time.Now().Add(dirfs.LockTimeout), false); err != nil {
		return dirfs.LockError(d.File(), d.Path(), err)
	}
	sb, err := d.ReadSuperblock()
	if err != nil {
		return err
	}
	m := mount.Spec{Source: d.Path(), Kind: sb.Kind, Flags: mount.Flags, Data: mount.Options(sb.Kind)}
	made := sb.UUID != c.UUID || sb.Unfinished
	if !made && c.Wipe && len(sb.Features.After419()) > 0 {
		if made, err = c.isBare(m); err != nil {
			return err
		}
	}
	if made {
		same, err := overwrite.MayFormat(d, sb, c.Wipe, false)
		if err != nil {
			return err
		}
		if err := c.format(d, same); err != nil {
			return err
		}
		m.Kind, m.Data = c.Filesystem, mount.Options(c.Filesystem)
	}
	if !made && sb.Devices > 1 {
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
		} else if others, err := overwrite.Foreign(root); err != nil {
			return err
		} else if len(others) > 0 {
			return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s carries the filesystem of SR %s without the SR, but with %d other files, as %q", d.Path(), c.UUID, len(others), fault.Shorten(others[0])),
				"mount it, and move them away; or make another SR on it, with wipe=yes")
		} else if err := mountable419(root, d, sb.Features); err != nil {
			return err
		}
		if err := fill(root, m.Kind, d.Size()); err != nil {
			return err
		}
		return create(root)
	})
	if err != nil && made {
		err = errors.Join(err, d.Unsign(c.UUID))
	}
	return err
}

// mountable419 refuses an XFS without an SR in it that Linux 4.19 cannot mount: whoever made it was stopped before looking at it.
func mountable419(root *dirfs.Dir, d *blockdev.Disk, features xfs.Features) error {
	newer := features.After419()
	if _, err := layout.ReadMeta(root); len(newer) == 0 || !errors.Is(err, os.ErrNotExist) {
		return nil // whatever is wrong with it, SR.create tells
	}
	return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s carries an XFS without an SR that Linux 4.19 cannot mount (%s)", d.Path(), xfs.Names(newer)),
		"make the SR with wipe=yes")
}

// isBare says whether there is nothing in the SR's filesystem.
func (c Configuration) isBare(m mount.Spec) (bare bool, err error) {
	err = c.inFilesystem(m, func(root *dirfs.Dir) error {
		names, err := root.Names()
		bare = len(names) == 0
		return err
	})
	return bare, err
}

// fill makes the filesystem as large as the disk, which one that was made of a template may not be yet. One with an
// SR in it stays as it is: growing that is for who has it attached to decide.
func fill(root *dirfs.Dir, kind string, size int64) error {
	if kind != "xfs" {
		return nil
	}
	if _, err := layout.ReadMeta(root); !errors.Is(err, os.ErrNotExist) {
		return nil // whatever is wrong with it, SR.create tells
	}
	return filesystem.GrowXFS(root, size)
}

// inFilesystem runs do with the root of the SR's filesystem, which is mounted privately if
// SR.attach has not mounted it already. The caller has the mount point locked. Messages
// call it by that.
func (c Configuration) inFilesystem(m mount.Spec, do func(root *dirfs.Dir) error) error {
	there, err := mountinfo.At(c.Path)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		if err := c.isAt(there); err != nil {
			return err
		}
		return c.CreateAtPath(do)
	}
	return m.Peek(c.Path, do)
}
