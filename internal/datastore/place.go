package datastore

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
)

var (
	number   = regexp.MustCompile(`^[0-9]{1,10}$`)
	diskName = regexp.MustCompile(`^disk\.[0-9]{1,10}$`)
	fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)
)

// place is a name in an open directory of a datastore.
type place struct {
	dir  *dirfs.Dir
	name string
}

func (p place) close()       { p.dir.Close() }
func (p place) path() string { return p.dir.Join(p.name) }

// proper refuses a path that is not one of a datastore as OpenNebula writes it.
func proper(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fault.Errorf(fault.ErrInvalid, path, "the path %q is refused: it must be absolute, with no .., no empty part and no control character", fault.Shorten(path))
	}
	return nil
}

// IsDisk says whether a path is that of a guest's disk, and not of its directory or an image.
func IsDisk(path string) bool {
	return diskName.MatchString(filepath.Base(path)) && number.MatchString(filepath.Base(filepath.Dir(path)))
}

// open opens the place of an image or of a guest's disk.
func open(path string) (place, error) {
	if IsDisk(path) {
		return openDisk(path)
	}
	return openImage(path)
}

// openImage opens the directory of an image: LOCATION/DATASTORE/NAME.
func openImage(path string) (place, error) {
	if err := proper(path); err != nil {
		return place{}, err
	}
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	if !number.MatchString(filepath.Base(dir)) || !fileName.MatchString(name) {
		return place{}, fault.Errorf(fault.ErrInvalid, path, "%q is no image of a datastore, which is a file in a directory whose name is the datastore's number", fault.Shorten(path))
	}
	d, err := dirfs.OpenDir(dir)
	return place{d, name}, err
}

// openDisk opens the directory of a guest's disk: LOCATION/DATASTORE/GUEST/disk.N.
func openDisk(path string) (place, error) {
	guest, err := openGuest(filepath.Dir(path))
	if err != nil {
		return place{}, err
	}
	defer guest.close()
	if name := filepath.Base(path); !diskName.MatchString(name) {
		return place{}, fault.Errorf(fault.ErrInvalid, path, "%q is no guest's disk: it is called disk.N", fault.Shorten(path))
	}
	d, err := guest.dir.Sub(guest.name)
	return place{d, filepath.Base(path)}, err
}

// openGuest opens the datastore of a guest's directory: LOCATION/DATASTORE/GUEST.
func openGuest(path string) (place, error) {
	if err := proper(path); err != nil {
		return place{}, err
	}
	dir, name := filepath.Dir(path), filepath.Base(path)
	if !number.MatchString(filepath.Base(dir)) || !number.MatchString(name) {
		return place{}, fault.Errorf(fault.ErrInvalid, path, "%q is no guest's directory in a datastore: both have numbers for names", fault.Shorten(path))
	}
	d, err := dirfs.OpenDir(dir)
	return place{d, name}, err
}

// makeGuest makes the directory of a guest if it is not there.
func makeGuest(path string) error {
	g, err := openGuest(path)
	if err != nil {
		return err
	}
	defer g.close()
	if err := makeDir(g.dir, g.name); err != nil {
		return err
	}
	return g.dir.Sync()
}

// makeDir makes a directory in which the hypervisor, of the owner's group, can work.
func makeDir(d *dirfs.Dir, name string) error {
	err := unix.Mkdirat(d.Fd(), name, 0o770)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: d.Join(name), Err: err}
	}
	return nil
}

// live opens the place of the file that a guest's disk is: itself, or the image that it is a link to. That must be in a datastore beside
// the disk's.
func live(path string) (place, error) {
	p, err := open(path)
	if err != nil {
		return place{}, err
	}
	target, err := p.target()
	if err != nil || target == "" {
		if err != nil {
			p.close()
		}
		return p, err
	}
	p.close()
	location := filepath.Dir(filepath.Dir(filepath.Dir(path)))
	if !IsDisk(path) || filepath.Dir(filepath.Dir(target)) != location || IsDisk(target) {
		return place{}, fault.Hint(fault.Errorf(fault.ErrDamaged, path, "%s is a link to %q, which is no image of a datastore in %s", path, fault.Shorten(target), location),
			"find out who made it; nothing was changed")
	}
	return openImage(target)
}

// target is what a name is a link to, "" if it is none.
func (p place) target() (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(p.dir.Fd(), p.name, buf)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return "", nil
	case err != nil:
		return "", &os.PathError{Op: "readlink", Path: p.path(), Err: err}
	}
	return string(buf[:n]), nil
}

// snapshots is the name of the directory of a file's snapshots, which is beside it.
func (p place) snapshots() string { return p.name + ".snap" }

// snapshot opens the place of a snapshot of the file.
func (p place) snapshot(id int) (place, error) {
	d, err := p.dir.Sub(p.snapshots())
	if errors.Is(err, os.ErrNotExist) {
		return place{}, noSnapshot(p, id)
	}
	return place{d, itoa(id)}, err
}

func noSnapshot(p place, id int) error {
	return fault.Errorf(fault.ErrVolumeNotFound, p.path(), "%s has no snapshot %d", p.path(), id)
}

// namesIn opens a directory beside the place, and lists it: nil, and no error, if it is not there.
func (p place) namesIn(name string) (*dirfs.Dir, []string, error) {
	d, err := p.dir.Sub(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	names, err := d.Names()
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, names, nil
}
