package source

import (
	"fmt"
	"log/slog"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/program"
	"reflinksr/internal/units"
	"reflinksr/internal/uuids"
	"reflinksr/internal/xfs"
)

// mkfs is a program that makes filesystems. Nothing is on the disk any more, so it need not be told to overwrite it: if
// it finds something all the same, it refuses.
type mkfs struct {
	pack, name string // the package that has it
	args       []string
}

// maker makes a filesystem on a disk that carries nothing: by a program, or by a template if there is none.
type maker struct {
	program *mkfs
	image   *xfs.Image // the template, which serves as well where the program makes what Linux 4.19 cannot mount; or nil
}

// maker decides how the filesystem is made, before anything on the disk is lost.
func (c Configuration) maker(size int64) (maker, error) {
	if c.Filesystem == "btrfs" {
		p := &mkfs{"btrfs-progs", "mkfs.btrfs", []string{"-q", "-L", layout.DiskLabel, "-U", c.UUID}}
		_, err := program.Find(p.pack, p.name)
		return maker{program: p}, err
	}
	var m maker
	id, _ := uuids.Parse(c.UUID)
	image, tooSmall := xfs.NewImage(size, id)
	if c.Mkfs == byTemplate {
		m.image = image
		return m, small(c.Device, size, tooSmall)
	}
	args, unable := mkfsXFS(c.UUID)
	if unable == nil {
		m.program = &mkfs{"xfsprogs", "mkfs.xfs", args}
		if c.Mkfs != byProgram && tooSmall == nil {
			m.image = image
		}
		return m, nil
	}
	if c.Mkfs == byProgram {
		return m, unable
	}
	if tooSmall != nil {
		return m, fmt.Errorf("%w; and without it: %w", small(c.Device, size, tooSmall), unable)
	}
	slog.Info("the filesystem is made without mkfs.xfs", "device", c.Device, "because", unable)
	m.image = image
	return m, nil
}

// small refuses a disk for which there is no template.
func small(device string, size int64, tooSmall error) error {
	if tooSmall == nil {
		return nil
	}
	return fault.Hint(fault.Errorf(fault.ErrUnsuitable, device, "%s has %s, and an XFS that is made without mkfs.xfs needs %s", device, units.Bytes(size), units.Bytes(xfs.MinTemplate)),
		"take a larger one")
}

// mkfsXFS asks this host's mkfs.xfs what it can be told. The error says why it cannot make an SR's filesystem.
func mkfsXFS(uuid string) (args []string, unable error) {
	_, usage, err := program.Run("xfsprogs", "mkfs.xfs") // without arguments it tells, and fails
	if err != nil {
		return nil, err
	}
	options, able := xfs.MkfsOptions(usage)
	if !able {
		return nil, fault.Hint(fault.Errorf(fault.ErrUnsuitable, "mkfs.xfs", "mkfs.xfs of this host is too old: it has no option reflink"),
			"leave out mkfs=program")
	}
	return append([]string{"-q", "-L", layout.DiskLabel, "-m", "uuid=" + uuid}, options...), nil
}

// format makes a filesystem with the SR's UUID on the disk, if it is still the same.
func (c Configuration) format(d *blockdev.Disk, same func() error) error {
	m, err := c.maker(d.Size())
	if err != nil {
		return err // before anything is lost
	}
	if err := d.Clear(same); err != nil {
		return fmt.Errorf("clearing %s: %w", d.Path(), err)
	}
	err = m.make(d)
	if err == nil {
		return nil
	}
	// What was made until then must not be taken for more.
	if e := d.Clear(func() error { return nil }); e != nil {
		return fmt.Errorf("no filesystem could be made on %s, and a part of one may be left on it, which could not be cleared (%w): %w", d.Path(), e, err)
	}
	return fmt.Errorf("no filesystem could be made on %s, which is blank now: %w", d.Path(), err)
}

// make makes the filesystem, or part of one.
func (m maker) make(d *blockdev.Disk) error {
	if m.program == nil {
		return m.install(d)
	}
	if err := m.program.run(d); err != nil {
		return err
	}
	d.DropCache()
	sb, err := d.ReadSuperblock()
	if err != nil {
		return err
	}
	newer := sb.Features.After419()
	if len(newer) == 0 {
		return nil
	}
	err = fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s made an XFS on %s that Linux 4.19 cannot mount (%s), and has no option against that which is known here", m.program.name, d.Path(), xfs.Names(newer)),
		"say mkfs=template")
	if m.image == nil {
		return err
	}
	slog.Warn("a template is taken for what mkfs made", "because", err)
	if err := d.Clear(func() error { return nil }); err != nil {
		return err
	}
	return m.install(d)
}

func (m maker) install(d *blockdev.Disk) error {
	if err := d.Install(m.image); err != nil {
		return fmt.Errorf("making an XFS on %s: %w", d.Path(), err)
	}
	return nil
}

func (p mkfs) run(d *blockdev.Disk) error {
	var status int
	var out string
	err := mount.WithOnly(d.Path(), func() (err error) {
		status, out, err = program.Run(p.pack, p.name, append(p.args, d.Path())...)
		return err
	})
	if err == nil && status != 0 {
		err = fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s made no filesystem on %s: it failed with exit status %d: %s", p.name, d.Path(), status, program.OneLine(out))
	}
	return err
}
