package sr

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
)

// What a tool is told to write to may be something else than who says so thinks: the disk
// of an SR that is detached, the disk of a guest. This is the one rule for all of them.

// OpenToOverwrite opens a block device for a tool that writes to it without making a
// filesystem, for nobody else to use meanwhile. What is in use is refused, whatever may be
// destroyed: the device of a volume too, unless this host itself has it, as dom0, to write
// to it. What carries anything is refused unless that may be destroyed; the error says what
// would be, and by which flag.
func OpenToOverwrite(path string, size int64, destroy bool, flag string) (*os.File, error) {
	l, err := lookAt("disk", path, spinUp)
	if err != nil {
		return nil, err
	}
	d, err := openDisk(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if d.size < size {
		return nil, fault.Errorf(fault.ErrSize, path, "%s has %d bytes, and needs %d", path, d.size, size)
	}
	owner, err := diskOwner(d.dev, true)
	if err != nil {
		return nil, err
	}
	if owner != "" && !d.isOwnToWrite() {
		return nil, fault.Errorf(fault.ErrSRInUse, path, "%s is not to be written to: it is %s: give a disk to dom0 alone (in the toolstack: a VBD of dom0), and take the device that dom0 has then", path, owner)
	}
	if l.Member != "" {
		return nil, fault.Errorf(fault.ErrSRInUse, path, "%s is %s: write to that", path, l.Member)
	}
	if err := d.writable(); err != nil {
		return nil, err
	}
	f, err := d.claimAny(unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := d.mayOverwrite(destroy, flag); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *disk) mayOverwrite(destroy bool, flag string) error {
	if err := d.freeByOverlaps(); err != nil {
		return err
	}
	if err := d.freeByAllPaths(); err != nil || destroy {
		return err
	}
	sb, err := d.superblock()
	if err != nil {
		return err
	}
	content, err := d.carries(sb)
	if err != nil {
		return fmt.Errorf("%w (%s destroys it unseen)", err, flag)
	}
	if content.what != "" {
		return fault.Errorf(fault.ErrUnsuitable, d.path, "%s is not blank: it carries %s, and all of that would be lost: choose another device, or say %s", d.path, content.what, flag)
	}
	return nil
}

// isOwnToWrite says whether a guest's disk is one that dom0, and nobody else, was given to
// write to: as the toolstack does for whoever restores a backup.
func (d *disk) isOwnToWrite() bool {
	if strings.HasPrefix(filepath.Base(d.path), "xvd") {
		return controlDomain() // by way of its own front end
	}
	info, err := d.loop()
	if err != nil || info == nil {
		return false
	}
	note, err := noteOfFile(info.Device, info.Inode)
	if err != nil || note == nil {
		return false
	}
	for _, domain := range note.Domains {
		if !isDom0(domain) {
			return false
		}
	}
	for _, holder := range note.Active {
		if holder.Write && isDom0(holder.Domain) {
			return true
		}
	}
	return false
}

// isDom0 says whether a domain is dom0: the toolstack calls it u0_<what for>.
func isDom0(domain string) bool { return domain == "0" || strings.HasPrefix(domain, "u0") }

// deviceNote is what package volume notes of the device of a volume, as far as it says
// whose that is.
type deviceNote struct {
	volume  string
	Dev     uint64   `json:"dev"` // of the file
	Ino     uint64   `json:"ino"`
	Domains []string `json:"domains"`
	Active  []struct {
		Domain string `json:"domain"`
		Write  bool   `json:"write"`
	} `json:"active"`
}

// noteOfFile finds the note of a volume whose device is of that file; nil if there is none.
func noteOfFile(dev, ino uint64) (*deviceNote, error) {
	dir, err := rundir.Look("volume")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		// <uuid of the SR>.<key>.json, see package volume.
		key, is := strings.CutSuffix(name, ".json")
		if !is || len(key) != 73 {
			continue
		}
		note := deviceNote{volume: "volume " + key[37:] + " of SR " + key[:36]}
		// One that is damaged says nothing of this file; the name that the device was
		// given still does.
		data, err := dir.Read(name, record.Limit)
		if err == nil && json.Unmarshal(data, &note) == nil && note.Ino == ino && note.Dev == dev {
			return &note, nil
		}
	}
	return nil, nil
}

// MayWriteFile refuses a path for a tool that writes files where it is told to: in an SR's
// directory only calls write. The file need not be there.
func MayWriteFile(path string) error {
	dir, err := Containing(path)
	if err != nil {
		return err
	}
	if dir != "" {
		return fault.Errorf(fault.ErrSRInUse, path, "%s is in the directory of an SR, %s: give a file that is in none; to write to a volume, attach it, and give its device", path, dir)
	}
	return nil
}

// FileOfNoDevice refuses a file that a loop device is of: what is behind a block device
// belongs to whoever has that. The file need not be there.
func FileOfNoDevice(path string) error {
	var st unix.Stat_t
	if err := sys.Do(func() error { return unix.Stat(path, &st) }); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	device, err := loopOfFile(st.Dev, st.Ino)
	if err == nil && device != "" {
		err = fault.Errorf(fault.ErrSRInUse, path, "%s is in use: %s is a loop device of it: detach that first", path, device)
	}
	return err
}

// loopOfFile finds a loop device of the file. One that does not answer is left out.
func loopOfFile(dev, ino uint64) (string, error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return "", err
	}
	var nodes []string
	for _, sys := range bound {
		nodes = append(nodes, "/dev/"+filepath.Base(filepath.Dir(sys)))
	}
	for i, answer := range lookAtAll("loop", nodes) {
		if isShortage(answer.err) {
			return "", answer.err
		}
		if answer.err == nil && answer.Dev == dev && answer.Ino == ino {
			return nodes[i], nil
		}
	}
	return "", nil
}

// lookAtLoop looks at the file behind a loop device.
func lookAtLoop(path string) (l looked, err error) {
	info, err := loopStatus(filepath.Base(path))
	if err == nil {
		l.Dev, l.Ino, l.Rdev, l.Offset, l.Same = info.Device, info.Inode, info.Rdevice, int64(info.Offset), loopIdentity(info) // #nosec G115 -- of a file: below 2^63
	}
	return l, err
}
