package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/loop"
	"reflinksr/internal/procs"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// FileDir holds a link to the file of each disk that dom0 may read as a file, named as the disk's note. It is below /dev because
// xapi cuts five characters off the path of whatever dom0 gets. Only tests give it another place, before anything else.
var FileDir = "/dev/reflinksr"

// offersFile says whether dom0 may read and write a disk by its file as well. By that it finds holes, which a loop device does not tell of.
//
// Who reads the file fills the page cache with it, past which the device may write: the kernel can then fail the next flush of whoever has
// the device. So the file is only for disks of which dom0 has no such company while it is active:
//
//   - one that is not sharable has one writer, or readers; leases see to that;
//   - a sharable one may have a guest that writes at any time;
//   - of one on a shared SR another host may take a snapshot: what dom0 wrote to its page cache would be missing from it. Nobody writes to a snapshot;
//   - a nonpersistent one is thrown away.
func offersFile(domain string, note lease.Note, readWrite, sharable, clustered bool) bool {
	return lease.IsDom0(domain) && !sharable && !note.Nonpersistent && (!clustered || !readWrite)
}

// offerFile makes the link to the disk's file for a domain that may have it, and returns its path; "" for others. Without one there is the device.
func (v *session) offerFile(s *sr.SR, r *volume.Record, domain string) string {
	if !offersFile(domain, v.state, r.ReadWrite, r.Sharable, s.Meta.Filesystem.Clustered()) {
		return ""
	}
	path, err := v.link(filepath.Join(s.Path, sr.Data(v.key)))
	if err != nil {
		slog.Warn("the disk is offered as a device only", "key", v.key, "err", err)
		return ""
	}
	return path
}

// link makes the volume's link in FileDir one to target. The directory is for nobody but root.
func (v *session) link(target string) (path string, err error) {
	dev, err := dirfs.OpenDir(filepath.Dir(FileDir))
	if err != nil {
		return "", err
	}
	defer dev.Close()
	dir, err := dev.Mkdir(filepath.Base(FileDir))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	path = filepath.Join(FileDir, v.name)
	if now, err := os.Readlink(path); err == nil && now == target {
		return path, nil
	}
	if err := dir.Remove(v.name); err != nil {
		return "", err
	}
	if err := sys.Do(func() error { return unix.Symlinkat(target, dir.Fd(), v.name) }); err != nil {
		return "", &os.LinkError{Op: "symlink", Old: target, New: path, Err: err}
	}
	return path, nil
}

// unlink removes the link: no domain of dom0 has the disk any more. That cannot be refused, so it is tried twice.
func (v *session) unlink() {
	unlink := func() error { return unix.Unlink(filepath.Join(FileDir, v.name)) }
	err := sys.Do(unlink)
	if err != nil && err != unix.ENOENT {
		err = sys.Do(unlink)
	}
	if err != nil && err != unix.ENOENT {
		slog.Error("a link to a disk's file stays until its SR is attached", "key", v.key, "err", err)
	}
}

// tellOfReaders logs which programs still have the file open by the link that is about to go. They cannot be made to close it, and while one of
// them reads it, the next guest's flush can fail.
func (v *session) tellOfReaders() {
	if _, err := os.Lstat(filepath.Join(FileDir, v.name)); err != nil {
		return // nobody got it
	}
	for _, pid := range procs.Openers(string(v.key), v.state.Dev, v.state.Ino) {
		slog.Warn("a program of dom0 still has the file of a disk open that is given back: end it before a guest has the disk", "key", v.key, "program", procs.Describe(pid))
	}
}

// sweepLinks removes the links of an SR that are nobody's: of what is not noted, nobody has anything.
func sweepLinks(s *sr.SR) error {
	names, err := os.ReadDir(FileDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, link := range names {
		text, ours := strings.CutPrefix(link.Name(), lease.NoteName(s.Meta.UUID, ""))
		key, malformed := sr.ParseKey(text)
		if !ours || malformed != nil {
			continue
		}
		uri := volume.URI(s, key)
		if noted, e := isNoted(uri); e != nil || noted {
			err = errors.Join(err, e)
			continue
		}
		v, e := begin(uri) // an attach that goes on now has made its link before its note could be seen
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		v.end()
	}
	return err
}

// flushFile makes durable what dom0 wrote to the disk's file, and has the devices read it. To fsync a device is to fsync its file; where it
// is gone, the file is fsynced itself.
func (v *session) flushFile(devices []loop.Device) error {
	flushed := false // one that has gone since was not
	for _, d := range devices {
		err := d.DropCache()
		if err != nil && !errors.Is(err, loop.ErrGone) {
			return fmt.Errorf("volume %s: what was written to its file cannot be seen by its device: %w", v.key, err)
		}
		flushed = flushed || err == nil
	}
	if flushed {
		return nil
	}
	return v.locked(func(s *sr.SR) error {
		f, err := volume.OpenReceived(s, v.key, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
