package overwrite

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/program"
)

// A disk is blank if nothing is on it, and what is on it is asked of the disk itself, never
// of what it shows when it is mounted: a filesystem may show a part of itself that is
// empty. Who knows nothing of what is there does not know that nothing is there: all that
// cannot be read, or is not known, is taken for something.

// MayFormat refuses a disk that is in use, or carries anything, unless that may be wiped.
// A probe writes nothing, and may find SR.create to know better. same says, once the disk is
// claimed for good, whether it is still what was looked at.
func MayFormat(d *blockdev.Disk, sb blockdev.Superblock, wipe, probe bool) (same func() error, err error) {
	claimed, err := d.Claim(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	claimed.Close() // a look into a filesystem has to mount it
	if err := d.FreeByAllPaths(); err != nil {
		return nil, err
	}
	if err := d.FreeByOverlaps(); err != nil {
		return nil, err
	}
	if err := d.Writable(); err != nil {
		return nil, err
	}
	if wipe {
		return func() error { return nil }, nil
	}
	content, err := carries(d, sb)
	if err != nil {
		return nil, err
	}
	var left bool
	var doubt error
	if content.mayBeLeft(sb) {
		left, doubt = isLeft(d, sb, probe)
	}
	if err := content.refused(d.Path(), left, doubt); err != nil {
		return nil, err
	}
	d.DropCache()
	seen, err := blockdev.ReadSuperblocks(d.File())
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Path(), err)
	}
	return func() error { return isStill(d, content.what, seen) }, nil
}

// isStill says whether a disk that is claimed carries what it carried before. Whoever has
// mounted a filesystem to write to it meanwhile has written its superblock.
func isStill(d *blockdev.Disk, what string, seen blockdev.Superblocks) error {
	d.DropCache()
	blocks, err := blockdev.ReadSuperblocks(d.File())
	if err != nil {
		return fmt.Errorf("reading %s: %w", d.Path(), err)
	}
	now, err := carries(d, blocks.Parse())
	if err != nil {
		return err
	}
	if now.what != what || !blocks.Equal(seen) {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, d.Path(), "%s was written to by somebody else meanwhile, and stays as it is", d.Path()),
			"try again")
	}
	return nil
}

// content is what is on a disk.
type content struct {
	what string // "" for nothing
	ours bool   // nothing but the filesystem whose superblock was read, or its beginnings
}

// mayBeLeft says that the content is nothing but a filesystem of our making, in which nothing may be.
func (c content) mayBeLeft(sb blockdev.Superblock) bool {
	return c.what != "" && c.ours && sb.Label == layout.DiskLabel
}

// refused refuses the disk at path for what is on it. left: that is only what an interrupted call of ours left; doubt is
// why that cannot be told.
func (c content) refused(path string, left bool, doubt error) error {
	if c.what == "" || left && doubt == nil {
		return nil
	}
	why := ""
	if doubt != nil {
		why = fmt.Sprintf(", and whether that is empty cannot be told (%v)", doubt)
	}
	return fault.Hint(fault.Errorf(fault.ErrUnsuitable, path, "%s is not blank: it carries %s%s", path, c.what, why),
		"choose another device, or say wipe=yes to destroy all that is on it")
}

// carries says what is on a disk. blkid knows most; the superblocks that we read ourselves
// are a second opinion, and the third is that nothing is at either end.
func carries(d *blockdev.Disk, sb blockdev.Superblock) (c content, err error) {
	if partitions := d.Partitions(); len(partitions) > 0 {
		return content{what: fmt.Sprintf("a partition table (%s)", strings.Join(partitions, ", "))}, nil
	}
	if bound, err := d.Bound(); err != nil || bound != "" {
		return content{what: bound}, err
	}
	status, out, err := program.RunFor(blkidTimeout, "util-linux", "blkid", "-p", "-o", "export", d.Path())
	if err != nil {
		return c, err
	}
	switch status {
	case 0:
		if c.what = signature(out); c.what == "" {
			c.what = "something that blkid knows (see blkid -p)"
		}
		found := tags(out)
		c.ours = sb.Kind != "" && found["TYPE"] == sb.Kind && found["PTTYPE"] == ""
	case 2:
		if said := strings.TrimSpace(out); said != "" {
			return c, fmt.Errorf("%s: blkid cannot tell what it carries: %s", d.Path(), fault.Shorten(program.OneLine(said)))
		}
		c.ours = sb.Unfinished // of what mkfs has not finished blkid knows nothing
	case 8:
		return c, fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s is not blank: it carries the signatures of several things at once (see wipefs)", d.Path()),
			"choose another device, or say wipe=yes to destroy all that is on it")
	default:
		return c, fmt.Errorf("%s: blkid failed with exit status %d: %s", d.Path(), status, fault.Shorten(program.OneLine(out)))
	}
	if c.what == "" && sb.Kind != "" {
		c.what = sb.String()
	}
	// Also of what is known already: a disk that cannot be read is nobody's to format.
	unknown, err := unknown(d)
	if c.what == "" {
		c.what = unknown
	}
	if err == nil && c.ours {
		var at int64
		if at, err = beside(d, sb); at >= 0 {
			c.ours = false
			c.what += fmt.Sprintf(", and beside that something else, as at byte %d", at)
		}
	}
	return c, err
}

// blkidTimeout bounds the wait for blkid, which reads a few places of the disk.
const blkidTimeout = 30 * time.Second

// tags reads what blkid prints: NAME=value, one per line.
func tags(out string) map[string]string {
	tags := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			tags[name] = value
		}
	}
	return tags
}

// signature is what blkid printed in words.
func signature(out string) string {
	tags := tags(out)
	var what []string
	if kind := tags["TYPE"]; kind != "" {
		what = append(what, kind)
		for _, name := range []string{"LABEL", "UUID"} {
			if value := tags[name]; value != "" {
				what = append(what, fmt.Sprintf("%s %q", strings.ToLower(name), fault.Shorten(value)))
			}
		}
	}
	if kind := tags["PTTYPE"]; kind != "" {
		what = append(what, "a partition table ("+kind+")")
	}
	return strings.Join(what, ", ")
}

// unknown says what is at the ends of a disk that nobody knows: a volume that is encrypted
// without a header, say, or a filesystem that is newer than blkid. "" if all is zero.
func unknown(d *blockdev.Disk) (string, error) {
	at, err := d.FirstByte(blockdev.ClearEnd)
	if err != nil {
		return "", fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s cannot be read, so nobody knows whether it is blank: %v", d.Path(), err)
	}
	for _, offset := range blockdev.BtrfsMirrors {
		if offset+blockdev.SuperSize > d.Size() {
			break
		}
		block := make([]byte, blockdev.SuperSize)
		if _, err := d.File().ReadAt(block, offset); err != nil {
			return "", fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s cannot be read, so nobody knows whether it is blank: %v", d.Path(), err)
		}
		if sb, is := blockdev.ParseBtrfs(block); is {
			return "a copy of the superblock of " + sb.String(), nil
		}
	}
	if at < 0 {
		second, err := d.Second()
		if err != nil {
			return "", fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s cannot be read, so nobody knows whether it is blank: %v", d.Path(), err)
		}
		return second, nil
	}
	return fmt.Sprintf("data of a kind that is not known, as at byte %d (it may be encrypted)", at), nil
}

// Foreign lists what is in the root of a filesystem that carries no SR, but what our own
// calls left there when they were interrupted. Nothing is foreign where an SR is.
func Foreign(root *dirfs.Dir) ([]string, error) {
	if _, err := layout.ReadMeta(root); !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	names, err := root.Names()
	return slices.DeleteFunc(names, func(name string) bool { return name == layout.ControlDir || name == layout.TombstoneFile }), err
}

// isLeft says whether a filesystem of our making, with nothing beside it, has nothing in it
// but what an SR.create that was killed left, or an SR.destroy.
func isLeft(d *blockdev.Disk, sb blockdev.Superblock, probe bool) (bool, error) {
	switch {
	case sb.Unfinished:
		return true, nil
	case sb.Devices != 1, sb.Seed:
		return false, nil // others may hold what this one does not show, or build on it
	}
	// At first without the log, for another host may have it mounted; then with it: what
	// was just made may be nowhere else.
	left, err := isEmpty(d, sb, mount.WithoutLog[sb.Kind])
	if err != nil || !left || probe {
		return left, err
	}
	return isEmpty(d, sb, "")
}

func isEmpty(d *blockdev.Disk, sb blockdev.Superblock, data string) (empty bool, err error) {
	err = mount.PeekDisk(d, sb, data, nil, func(root *dirfs.Dir) error {
		if _, err := layout.ReadMeta(root); !errors.Is(err, os.ErrNotExist) {
			return nil // an SR, whatever can be read of it
		}
		others, err := Foreign(root)
		if err != nil || len(others) > 0 {
			return err
		}
		empty, err = isVestige(root)
		return err
	})
	return empty && err == nil, err
}

// isVestige says whether the control directory in the root of a filesystem that carries
// nothing else is of an SR that was destroyed, or that never came to be. One that lost its
// marker has more in it.
func isVestige(root *dirfs.Dir) (bool, error) {
	if m, err := layout.ReadDestroyed(root); err != nil || m != nil {
		return m != nil, err
	}
	control, err := root.Sub(layout.ControlDir)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer control.Close()
	names, err := control.Names()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		sub, err := control.Sub(name)
		if errors.Is(err, unix.ENOTDIR) && madeByUs(name) {
			continue // a lock, or a list
		}
		if errors.Is(err, unix.ENOTDIR) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		inside, err := sub.Names()
		sub.Close()
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(inside, func(n string) bool { return name != "staging" || n != layout.MarkerFile+".new" }) {
			return false, nil
		}
	}
	return true, nil
}

// madeByUs says whether a file directly in the control directory is one that our calls make.
func madeByUs(name string) bool {
	return name == "lock" || name == layout.DestroyManifest || name == layout.SequenceFile || slices.Contains(layout.ShortLocks, name)
}
