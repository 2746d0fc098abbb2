package source

import (
	"errors"
	"fmt"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/program"
)

// mkfs are the programs that make filesystems, with the packages that have them. Nothing
// is on the disk any more, so they need not be told to overwrite it: if they find
// something all the same, they refuse.
var mkfs = map[string]struct {
	pack string
	args func(uuid string) []string
}{
	"xfs": {"xfsprogs", func(uuid string) []string {
		return []string{"-q", "-L", layout.DiskLabel, "-m", "reflink=1,uuid=" + uuid}
	}},
	"btrfs": {"btrfs-progs", func(uuid string) []string { return []string{"-q", "-L", layout.DiskLabel, "-U", uuid} }},
}

// format makes a filesystem with that UUID on the disk, if it is still the same.
func format(d *blockdev.Disk, kind, uuid string, same func() error) error {
	name, how := "mkfs."+kind, mkfs[kind]
	if _, err := program.Find(how.pack, name); err != nil {
		return err // before anything is lost
	}
	if err := d.Clear(same); err != nil {
		return fmt.Errorf("clearing %s: %w", d.Path(), err)
	}
	var status int
	var out string
	err := mount.WithOnly(d.Path(), func() (err error) {
		status, out, err = program.Run(how.pack, name, append(how.args(uuid), d.Path())...)
		return err
	})
	if err == nil && status != 0 {
		err = fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s made no filesystem on %s, which is blank now: it failed with exit status %d: %s", name, d.Path(), status, program.OneLine(out))
	}
	if err != nil {
		return errors.Join(err, d.Clear(func() error { return nil })) // of what mkfs left
	}
	return nil
}
