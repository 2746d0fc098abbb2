package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bound is the loop devices in use at one moment, by the names of their files.
type Bound []bound

type bound struct {
	number int
	path   string // of the file, by sysfs; "… (deleted)" if it is
}

func (b bound) name() string { return filepath.Base(b.path) }

// List lists the loop devices in use.
func List() (Bound, error) {
	// Not /proc/partitions: it lacks devices of size 0, and reading it in pieces can
	// skip an entry when another disk goes.
	dir, err := openRaw(unix.AT_FDCWD, blockDir, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	names, err := namesIn(dir, blockDir)
	if err != nil {
		return nil, err
	}
	var all Bound
	page := make([]byte, os.Getpagesize())
	for _, name := range names {
		number, isLoop := strings.CutPrefix(name, "loop")
		n, err := strconv.Atoi(number)
		if !isLoop || err != nil {
			continue
		}
		backing, err := readAt(dir, name+"/loop/backing_file", page)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			continue // not bound
		}
		if errors.Is(err, unix.ENAMETOOLONG) {
			continue // its file's path has more than a page, and so is none that we could have opened
		}
		if err != nil {
			return nil, err
		}
		all = append(all, bound{n, strings.TrimSuffix(string(backing), "\n")})
	}
	return all, nil
}

// deleted is what sysfs adds to the name of a file that has none any more.
const deleted = " (deleted)"

// Where picks the devices of files at the paths that may says yes to. What another program's
// device is like must not matter, and it can only be asked by looking at its file, which may
// be on a filesystem that is dead.
func (all Bound) Where(may func(path string) bool) Bound {
	return slices.DeleteFunc(slices.Clone(all), func(b bound) bool { return !may(strings.TrimSuffix(b.path, deleted)) })
}

// Of picks the devices bound to the file with this device and inode number. Only
// devices whose file's name contains hint are opened: opening somebody else's
// device while it is being detached delays its end.
func (all Bound) Of(dev, ino uint64, hint string) ([]Device, error) {
	var found []Device
	var errs error
	for _, b := range all {
		if !strings.Contains(b.name(), hint) {
			continue
		}
		d := Device{b.number, dev, ino, Instance{Name: strings.TrimSuffix(b.name(), deleted)}}
		switch err := d.with(func(*os.File, *unix.LoopInfo64) error { return nil }); {
		case err == nil:
			d.Sequence = sequence(d.Number)
			found = append(found, d)
		case !errors.Is(err, ErrGone):
			errs = errors.Join(errs, err)
		}
	}
	return found, errs
}

// At lists the devices of what is, or was, at a path, as far as names tell. It is for
// files that cannot be looked at any more.
func (all Bound) At(path string) []Device {
	var found []Device
	for _, b := range all {
		if strings.TrimSuffix(b.path, deleted) == path {
			found = append(found, Device{Number: b.number, Instance: Instance{Sequence: sequence(b.number), Name: filepath.Base(path)}})
		}
	}
	return found
}

// Former lists the devices of what was at a path until the file with this device and inode
// number was put there, on the same filesystem.
func (all Bound) Former(path string, dev, ino uint64) ([]Device, error) {
	var found []Device
	for _, d := range all.At(path) {
		f, err := d.open(os.O_RDONLY)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		f.Close()
		switch {
		case err == unix.ENXIO:
		case err != nil:
			return nil, fmt.Errorf("%s: %w", d.Path(), err)
		case info.Device == dev && info.Inode != ino:
			d.Dev, d.Ino = info.Device, info.Inode
			found = append(found, d)
		}
	}
	return found, nil
}

// Any says whether Of could find a device with that hint.
func (all Bound) Any(hint string) bool {
	return slices.ContainsFunc(all, func(b bound) bool { return strings.Contains(b.name(), hint) })
}

// Find is List and Of.
func Find(dev, ino uint64, hint string) ([]Device, error) {
	all, err := List()
	if err != nil {
		return nil, err
	}
	return all.Of(dev, ino, hint)
}
