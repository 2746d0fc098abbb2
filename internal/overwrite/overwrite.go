package overwrite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/attached"
	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// What a tool is told to write to may be something else than who says so thinks: the disk
// of an SR that is detached, the disk of a guest. This is the one rule for all of them.

// OpenToOverwrite opens a block device for a tool that writes to it without making a
// filesystem, for nobody else to use meanwhile. What is in use is refused, whatever may be
// destroyed: the device of a volume too, unless this host itself has it, as dom0 or by srctl attach, to write
// to it. What carries anything is refused unless that may be destroyed; the error says what
// would be, and by which flag.
func OpenToOverwrite(path string, size int64, destroy bool, flag string) (*os.File, error) {
	l, err := blockdev.LookAt("disk", path, blockdev.SpinUp)
	if err != nil {
		return nil, err
	}
	d, err := blockdev.Open(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	owner, err := blockdev.OwnerOf(d.Number(), true)
	if err != nil {
		return nil, err
	}
	t := target{path: path, size: d.Size(), owner: owner, member: l.Member}
	t.own = owner != "" && isOwnToWrite(d)
	if err := t.refused(size); err != nil {
		return nil, err
	}
	if err := d.Writable(); err != nil {
		return nil, err
	}
	f, err := d.ClaimAny(unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := mayOverwrite(d, destroy, flag); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// target is what is known of a device, whatever it carries.
type target struct {
	path   string
	size   int64  // bytes
	owner  string // the guest whose disk it is, in words: "" if it is none's
	own    bool   // that is this host itself, to write to it
	member string // what it is a part of, in words
}

// refused says why nobody is to write that many bytes to it, whatever may be destroyed.
func (t target) refused(size int64) error {
	switch {
	case t.size < size:
		return fault.Errorf(fault.ErrSize, t.path, "%s has %d bytes, and needs %d", t.path, t.size, size)
	case t.owner != "" && !t.own:
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, t.path, "%s is not to be written to: it is %s", t.path, t.owner),
			"give a disk to this host alone (srctl attach; in the toolstack a VBD of dom0), and take the device that it has then")
	case t.member != "":
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, t.path, "%s is %s", t.path, t.member),
			"write to that")
	}
	return nil
}

func mayOverwrite(d *blockdev.Disk, destroy bool, flag string) error {
	if err := d.FreeByOverlaps(); err != nil {
		return err
	}
	if err := d.FreeByAllPaths(); err != nil || destroy {
		return err
	}
	sb, err := d.ReadSuperblock()
	if err != nil {
		return err
	}
	content, err := carries(d, sb)
	if err != nil {
		return fmt.Errorf("%w (%s destroys it unseen)", err, flag)
	}
	if content.what != "" {
		return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s is not blank: it carries %s, and all of that would be lost", d.Path(), content.what),
			"choose another device, or say %s", flag)
	}
	return nil
}

// isOwnToWrite says whether a guest's disk is one that dom0, and nobody else, was given to
// write to: as the toolstack does for whoever restores a backup, and srctl attach for its operator.
func isOwnToWrite(d *blockdev.Disk) bool {
	if strings.HasPrefix(filepath.Base(d.Path()), "xvd") {
		return blockdev.ControlDomain() // by way of its own front end
	}
	info, err := d.Loop()
	if err != nil || info == nil {
		return false
	}
	note, err := attached.NoteOfFile(info.Device, info.Inode)
	if err != nil || note == nil {
		return false
	}
	return isDom0s(note)
}

// isDom0s says whether nobody but dom0 has a device, and dom0 to write to it.
func isDom0s(note *attached.Note) bool {
	here := func(domain string) bool { return attached.IsDom0(domain) || domain == attached.Operator }
	for _, domain := range note.Domains {
		if !here(domain) {
			return false
		}
	}
	for _, holder := range note.Active {
		if holder.Write && here(holder.Domain) {
			return true
		}
	}
	return false
}

// MayWriteFile refuses a path for a tool that writes files where it is told to: in an SR's
// directory only calls write. The file need not be there.
func MayWriteFile(path string) error {
	dir, err := attached.Containing(path)
	if err != nil {
		return err
	}
	if dir != "" {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is in the directory of an SR, %s", path, dir),
			"give a file that is in none; to write to a volume, attach it, and give its device")
	}
	return nil
}

// FileOfNoDevice refuses a file that a loop device is of: what is behind a block device
// belongs to whoever has that. The file need not be there.
func FileOfNoDevice(path string) error { return fileOfNoDevice(path, blockdev.LoopsOfFiles) }

func fileOfNoDevice(path string, loops func() (map[blockdev.FileID]string, error)) error {
	var st unix.Stat_t
	if err := sys.Do(func() error { return unix.Stat(path, &st) }); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	devices, err := loops()
	if device := devices[blockdev.FileID{Dev: st.Dev, Ino: st.Ino}]; err == nil && device != "" {
		err = fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is in use: %s is a loop device of it", path, device),
			"detach that first")
	}
	return err
}
