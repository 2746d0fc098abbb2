package datastore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
)

// Remove removes an image with its snapshots. One that is gone is no error: it was begun before.
func Remove(path string) error {
	p, err := openImage(path)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.unused(); err != nil {
		return err
	}
	for _, name := range []string{p.name, p.name + ".md5sum"} {
		if err := p.dir.RemoveFile(name); err != nil {
			return err
		}
	}
	return p.removeTree(p.snapshots())
}

// RemoveDisk removes a guest's disk, or the link that it is, with its snapshots, which those of an image are not.
func RemoveDisk(path string) error {
	p, err := openDisk(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.unused(); err != nil {
		return err
	}
	if err := p.dir.RemoveFile(p.name); err != nil {
		return err
	}
	return p.removeTree(p.snapshots())
}

// RemoveGuest removes a guest's directory. One that is gone is no error.
func RemoveGuest(path string) error {
	p, err := openGuest(path)
	if err != nil {
		return err
	}
	defer p.close()
	d, names, err := p.namesIn(p.name)
	if d == nil {
		return err
	}
	defer d.Close()
	for _, name := range names {
		if diskName.MatchString(name) {
			if err := (place{d, name}).unused(); err != nil {
				return err
			}
		}
	}
	return p.removeTree(p.name)
}

// Move moves what a guest has, one of its disks or all of its directory, to another datastore of the filesystem. What is at its place is
// no error: a move that was killed is made again.
func Move(from, to string) error {
	if from == to {
		return nil
	}
	if IsDisk(from) != IsDisk(to) {
		return fault.Errorf(fault.ErrInvalid, to, "%q and %q are not of one kind: two disks, or two guests' directories", fault.Shorten(from), fault.Shorten(to))
	}
	if IsDisk(from) {
		return moveEntries(dirOf(from), dirOf(to), func(name string) bool { return name == filepath.Base(from) || name == filepath.Base(from)+".snap" }, false)
	}
	return moveEntries(from, to, func(name string) bool { return !strings.HasPrefix(name, ".onereflink") }, true)
}

// moveEntries moves what is in one guest's directory to another, and removes that if all of it is to go.
func moveEntries(from, to string, which func(name string) bool, all bool) error {
	a, err := openGuest(from)
	if err != nil {
		return err
	}
	defer a.close()
	src, err := a.dir.Sub(a.name)
	if errors.Is(err, os.ErrNotExist) && all {
		return gone(from, to)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if err := makeGuest(to); err != nil {
		return err
	}
	b, err := openGuest(to)
	if err != nil {
		return err
	}
	defer b.close()
	dst, err := b.dir.Sub(b.name)
	if err != nil {
		return err
	}
	defer dst.Close()
	names, err := src.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !which(name) {
			continue
		}
		taken, err := dst.Exists(name)
		if err != nil {
			return err
		}
		if taken && sameFile(src, dst, name) { // a power cut can leave a file that was renamed with both names (btrfs)
			if err := src.Remove(name); err != nil {
				return err
			}
			continue
		}
		if taken {
			return fault.Errorf(fault.ErrInvalid, to, "%s and %s both have %q: nothing is overwritten", from, to, fault.Shorten(name))
		}
		if err := src.Rename(name, dst, name); err != nil {
			return fault.Hint(fault.Errorf(fault.Classify(err), to, "%w", err), "system datastores between which guests move must be on one filesystem")
		}
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	if err := src.Sync(); err != nil || !all {
		return err
	}
	return a.removeTree(a.name)
}

// sameFile says whether a name is that of one file, and no directory, in two directories.
func sameFile(a, b *dirfs.Dir, name string) bool {
	var x, y unix.Stat_t
	if unix.Fstatat(a.Fd(), name, &x, unix.AT_SYMLINK_NOFOLLOW) != nil || unix.Fstatat(b.Fd(), name, &y, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return x.Mode&unix.S_IFMT != unix.S_IFDIR && x.Dev == y.Dev && x.Ino == y.Ino
}

// gone is no error where the other directory is there.
func gone(from, to string) error {
	b, err := openGuest(to)
	if err != nil {
		return err
	}
	defer b.close()
	if there, err := b.dir.IsDir(b.name); err != nil || there {
		return err
	}
	return fault.Errorf(fault.ErrVolumeNotFound, from, "there is neither %s nor %s", from, to)
}

// Keep makes sure that what a guest wrote to a persistent disk is in its image: the disk is a link to it. A disk that is none may hold
// what the image does not, and must not be removed unseen.
func Keep(disk, image string) error {
	p, err := openDisk(disk)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.close()
	target, err := p.target()
	if err != nil || target == image {
		return err
	}
	if there, err := p.dir.Exists(p.name); err != nil || !there {
		return err
	}
	return fault.Hint(fault.Errorf(fault.ErrDamaged, disk, "%s is not a link to its image %s, so what the guest wrote may be in it alone", disk, image),
		"move it to the image's place, or away, then try again; nothing was removed")
}
