package sr

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/program"
)

// A disk is blank if nothing is on it, and what is on it is asked of the disk itself, never
// of what it shows when it is mounted: a filesystem may show a part of itself that is
// empty. Who knows nothing of what is there does not know that nothing is there: all that
// cannot be read, or is not known, is taken for something.

// mayFormat refuses a disk that is in use, or carries anything, unless that may be wiped.
// A probe writes nothing, and may find SR.create to know better. same says, once the disk is
// claimed for good, whether it is still what was looked at.
func (d *disk) mayFormat(sb superblock, wipe, probe bool) (same func() error, err error) {
	claimed, err := d.claim(unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	claimed.Close() // a look into a filesystem has to mount it
	if err := d.freeByAllPaths(); err != nil {
		return nil, err
	}
	if err := d.freeByOverlaps(); err != nil {
		return nil, err
	}
	if err := d.writable(); err != nil {
		return nil, err
	}
	if wipe {
		return func() error { return nil }, nil
	}
	content, err := d.carries(sb)
	if err != nil {
		return nil, err
	}
	if content.what != "" {
		doubt := ""
		if content.ours && sb.label == diskLabel {
			left, err := d.isLeft(sb, probe)
			if err != nil {
				doubt = fmt.Sprintf(", and whether that is empty cannot be told (%v)", err)
			}
			content.ours = left && err == nil
		}
		if !content.ours || sb.label != diskLabel {
			return nil, fault.Errorf(fault.ErrUnsuitable, d.path, "%s is not blank: it carries %s%s: choose another device, or say wipe=yes to destroy all that is on it", d.path, content.what, doubt)
		}
	}
	d.forget()
	seen, err := readSuperblocks(d.f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.path, err)
	}
	return func() error { return d.isStill(content.what, seen) }, nil
}

// isStill says whether a disk that is claimed carries what it carried before. Whoever has
// mounted a filesystem to write to it meanwhile has written its superblock.
func (d *disk) isStill(what string, seen superblocks) error {
	d.forget()
	blocks, err := readSuperblocks(d.f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", d.path, err)
	}
	now, err := d.carries(blocks.parse())
	if err != nil {
		return err
	}
	if now.what != what || !blocks.equal(seen) {
		return fault.Errorf(fault.ErrSRInUse, d.path, "%s was written to by somebody else meanwhile, and stays as it is: try again", d.path)
	}
	return nil
}

// content is what is on a disk.
type content struct {
	what string // "" for nothing
	ours bool   // nothing but the filesystem whose superblock was read, or its beginnings
}

// carries says what is on a disk. blkid knows most; the superblocks that we read ourselves
// are a second opinion, and the third is that nothing is at either end.
func (d *disk) carries(sb superblock) (c content, err error) {
	if partitions := d.partitions(); len(partitions) > 0 {
		return content{what: fmt.Sprintf("a partition table (%s)", strings.Join(partitions, ", "))}, nil
	}
	if bound, err := d.bound(); err != nil || bound != "" {
		return content{what: bound}, err
	}
	status, out, err := program.RunFor(blkidPatience, "util-linux", "blkid", "-p", "-o", "export", d.path)
	if err != nil {
		return c, err
	}
	switch status {
	case 0:
		if c.what = signature(out); c.what == "" {
			c.what = "something that blkid knows (see blkid -p)"
		}
		found := tags(out)
		c.ours = sb.kind != "" && found["TYPE"] == sb.kind && found["PTTYPE"] == ""
	case 2:
		if said := strings.TrimSpace(out); said != "" {
			return c, fmt.Errorf("%s: blkid cannot tell what it carries: %s", d.path, fault.Shorten(program.OneLine(said)))
		}
		c.ours = sb.unfinished // of what mkfs has not finished blkid knows nothing
	case 8:
		return c, fault.Errorf(fault.ErrUnsuitable, d.path, "%s is not blank: it carries the signatures of several things at once (see wipefs): choose another device, or say wipe=yes to destroy all that is on it", d.path)
	default:
		return c, fmt.Errorf("%s: blkid failed with exit status %d: %s", d.path, status, fault.Shorten(program.OneLine(out)))
	}
	if c.what == "" && sb.kind != "" {
		c.what = sb.String()
	}
	// Also of what is known already: a disk that cannot be read is nobody's to format.
	unknown, err := d.unknown()
	if c.what == "" {
		c.what = unknown
	}
	if err == nil && c.ours {
		var at int64
		if at, err = d.beside(sb); at >= 0 {
			c.ours = false
			c.what += fmt.Sprintf(", and beside that something else, as at byte %d", at)
		}
	}
	return c, err
}

// blkidPatience bounds the wait for blkid, which reads a few places of the disk.
const blkidPatience = 30 * time.Second

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

// clearEnd is how much of either end of a disk is overwritten before a new filesystem is
// made, and must be zero on one that is blank, in bytes: all that tells what a disk carries
// is there, but for the copies of btrfs's superblock.
const clearEnd = 4 << 20

// unknown says what is at the ends of a disk that nobody knows: a volume that is encrypted
// without a header, say, or a filesystem that is newer than blkid. "" if all is zero.
func (d *disk) unknown() (string, error) {
	at, err := d.firstByte(clearEnd)
	if err != nil {
		return "", fault.Errorf(fault.ErrUnsuitable, d.path, "%s cannot be read, so nobody knows whether it is blank: %v", d.path, err)
	}
	for _, offset := range btrfsMirrors {
		if offset+superSize > d.size {
			break
		}
		block := make([]byte, superSize)
		if _, err := d.f.ReadAt(block, offset); err != nil {
			return "", fault.Errorf(fault.ErrUnsuitable, d.path, "%s cannot be read, so nobody knows whether it is blank: %v", d.path, err)
		}
		if sb, is := parseBtrfs(block); is {
			return "a copy of the superblock of " + sb.String(), nil
		}
	}
	if at < 0 {
		second, err := d.second()
		if err != nil {
			return "", fault.Errorf(fault.ErrUnsuitable, d.path, "%s cannot be read, so nobody knows whether it is blank: %v", d.path, err)
		}
		return second, nil
	}
	return fmt.Sprintf("data of a kind that is not known, as at byte %d (it may be encrypted)", at), nil
}

// firstByte is where the first byte is that is not zero within so many bytes of the ends of
// the disk; -1 if there is none. What mkfs.btrfs left that was killed does not count.
func (d *disk) firstByte(within int64) (int64, error) {
	within = min(within, d.size)
	data := make([]byte, within)
	for _, offset := range []int64{0, d.size - within} {
		if _, err := d.f.ReadAt(data, offset); err != nil {
			return 0, err
		}
		if i := slices.IndexFunc(data, func(b byte) bool { return b != 0 }); i >= 0 {
			at := offset + int64(i)
			if left, err := d.beginsBtrfs(at); err != nil || !left {
				return at, err
			}
			// That looked at more of the beginning than this.
		}
	}
	if size, err := d.f.Seek(0, io.SeekEnd); err != nil || size != d.size {
		return 0, errors.Join(fmt.Errorf("it has %d bytes, and had %d a moment ago", size, d.size), err)
	}
	return -1, nil
}

// beginsBtrfs says whether the byte is of a disk that holds the first trees of a btrfs and
// nothing else where the others would be: of a mkfs.btrfs that was killed before it wrote
// a superblock.
func (d *disk) beginsBtrfs(at int64) (bool, error) {
	if at < btrfsFirstTrees || at >= btrfsAfterMkfs {
		return false, nil
	}
	block := make([]byte, btrfsNode)
	for offset := int64(0); offset < min(btrfsAfterMkfs, d.size); offset += btrfsNode {
		n, err := d.f.ReadAt(block[:min(btrfsNode, d.size-offset)], offset)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }) && (n < btrfsNode || !isFirstTree(block, offset)) {
			return false, nil
		}
	}
	return true, nil
}

// foreign lists what is in the root of a filesystem that carries no SR, but what our own
// calls left there when they were interrupted. Nothing is foreign where an SR is.
func foreign(root *dirfs.Dir) ([]string, error) {
	if _, err := readMeta(root); !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	names, err := root.Names()
	return slices.DeleteFunc(names, func(name string) bool { return name == controlDir || name == tombstone }), err
}

// isLeft says whether a filesystem of our making, with nothing beside it, has nothing in it
// but what an SR.create that was killed left, or an SR.destroy.
func (d *disk) isLeft(sb superblock, probe bool) (bool, error) {
	switch {
	case sb.unfinished:
		return true, nil
	case sb.devices != 1, sb.seed:
		return false, nil // others may hold what this one does not show, or build on it
	}
	// At first without the log, for another host may have it mounted; then with it: what
	// was just made may be nowhere else.
	left, err := d.isEmpty(sb, withoutLog[sb.kind])
	if err != nil || !left || probe {
		return left, err
	}
	return d.isEmpty(sb, "")
}

func (d *disk) isEmpty(sb superblock, data string) (empty bool, err error) {
	err = d.peek(sb, data, nil, func(root *dirfs.Dir) error {
		if _, err := readMeta(root); !errors.Is(err, os.ErrNotExist) {
			return nil // an SR, whatever can be read of it
		}
		others, err := foreign(root)
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
	if m, err := destroyed(root); err != nil || m != nil {
		return m != nil, err
	}
	control, err := root.Sub(controlDir)
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
		if slices.ContainsFunc(inside, func(n string) bool { return name != "staging" || n != marker+".new" }) {
			return false, nil
		}
	}
	return true, nil
}

// madeByUs says whether a file directly in the control directory is one that our calls make.
func madeByUs(name string) bool {
	return name == "lock" || name == doomList || name == sequenceFile || slices.Contains(shortLocks, name)
}

// withoutLog are the options that mount a filesystem as it is, with its log not replayed:
// nothing is written to the disk.
var withoutLog = map[string]string{"xfs": "norecovery", "btrfs": "rescue=nologreplay"}

// peek runs do with the root of the disk's filesystem, mounted privately and read-only. One
// that is mounted already is only mounted as it is, which changes nothing. others are
// options that name the other disks that it is on.
func (d *disk) peek(sb superblock, data string, others []string, do func(root *dirfs.Dir) error) error {
	mounts := d.mounts()
	if len(mounts) > 0 {
		data = ""
	}
	m := mountable{source: d.path, kind: sb.kind, flags: mountFlags | unix.MS_RDONLY, data: options(sb.kind, append([]string{data}, others...)...)}
	if len(mounts) > 0 && !mounts[0].readOnly {
		m.flags = mountFlags
	}
	err := m.peek(d.path, do)
	if errors.Is(err, unix.EINVAL) && data == withoutLog["btrfs"] {
		m.data = options(sb.kind, append([]string{"nologreplay"}, others...)...) // its name until Linux 5.9
		err = m.peek(d.path, do)
	}
	return err
}
