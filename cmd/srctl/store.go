package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/catalogue"
	"reflinksr/cmd/internal/delta"
	"reflinksr/internal/fault"
	"reflinksr/internal/repository"
)

// A store is what a directory for backups has of one disk: a directory of the disk's key, with the streams and a catalogue of
// them. The streams are the truth. A stream has its name only when it is whole, so one that is not in the catalogue is a point
// that somebody was killed before noting; and a point whose stream is not there, or has another length, is lost, with all that
// begin with it.
type store struct {
	catalogue.Catalogue
	dir     string
	renewed bool // the catalogue was not there, or could not be read, and was made anew of the streams
	broken  map[repository.Key]error
	losses  map[int]error // what lostAt has found since something broke
}

// openStore reads what there is of a disk. That nothing is there is os.ErrNotExist.
func openStore(dir string, disk repository.Key) (*store, error) {
	st := &store{dir: filepath.Join(dir, string(disk)), broken: map[repository.Key]error{}}
	if info, err := os.Lstat(st.dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory: backups are kept in none that a link leads to", st.dir)
	}
	entries, err := os.ReadDir(st.dir)
	if err != nil {
		return nil, err
	}
	if err := st.read(disk); err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		if !catalogue.IsFileName(e.Name()) || !e.Type().IsRegular() {
			continue // not ours, or not whole
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // it goes just now
		}
		if err != nil {
			return nil, err
		}
		sizes[e.Name()] = info.Size()
	}
	for _, p := range st.Points {
		switch size, there := sizes[p.File]; {
		case !there:
			st.breaks(p.Key, fmt.Errorf("%s is not there", st.path(p)))
		case size != p.Bytes:
			st.breaks(p.Key, fmt.Errorf("%s has %d bytes, and not %d", st.path(p), size, p.Bytes))
		}
		delete(sizes, p.File)
	}
	return st, st.addUnlisted(sizes)
}

// partials are the paths of streams that are not whole.
func (st *store) partials() (paths []string, err error) {
	entries, err := os.ReadDir(st.dir)
	for _, e := range entries {
		if name, is := strings.CutSuffix(e.Name(), ".partial"); is && catalogue.IsFileName(name) && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(st.dir, e.Name()))
		}
	}
	return paths, err
}

// read reads the catalogue. Of one that is lost or damaged there is none; one of a newer version is for a newer program.
func (st *store) read(disk repository.Key) error {
	path := filepath.Join(st.dir, catalogue.Name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		defer f.Close()
		var c *catalogue.Catalogue
		if c, err = catalogue.Read(f); err == nil && c.Disk != disk {
			err = fmt.Errorf("it is of disk %s", c.Disk)
		}
		if err == nil {
			st.Catalogue = *c
			return nil
		}
	}
	var failed *os.PathError
	if errors.Is(err, catalogue.ErrVersion) || errors.As(err, &failed) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !errors.Is(err, os.ErrNotExist) {
		note("%s cannot be used, and what it told is read from the streams: %v", path, err)
	}
	st.Disk, st.renewed = disk, true
	return nil
}

// note tells a person what is no error.
func note(format string, args ...any) {
	fmt.Fprintf(messages, "note: "+format+"\n", args...)
}

// addUnlisted adds the points of streams that are not in the catalogue.
func (st *store) addUnlisted(sizes map[string]int64) error {
	known := map[repository.Key]bool{"": true}
	for _, p := range st.Points {
		known[p.Key] = true
	}
	var found []catalogue.Point
	makes := map[repository.Key]bool{}
	for _, file := range slices.Sorted(maps.Keys(sizes)) { // in the order of their times
		p, err := st.pointOf(file, sizes[file])
		if errors.Is(err, os.ErrNotExist) || slices.Contains(st.Removed, file) {
			continue
		}
		if err == nil && (known[p.Key] || makes[p.Key]) {
			err = fmt.Errorf("another stream makes volume %s as well", p.Key)
		}
		if err != nil {
			note("%s is left out: %v", filepath.Join(st.dir, file), err)
			continue
		}
		found, makes[p.Key] = append(found, p), true
	}
	// But a clock that was put back has made none before the one that it begins with.
	for len(found) > 0 {
		var later []catalogue.Point
		for _, p := range found {
			if !known[p.Since] {
				later = append(later, p)
				continue
			}
			known[p.Key] = true
			st.insert(p)
		}
		if len(later) == len(found) { // what they begin with is not there
			known[later[0].Since] = true
		}
		found = later
	}
	return nil
}

// insert adds a point before those that are later, but after the one that it begins with.
func (st *store) insert(p catalogue.Point) {
	at := len(st.Points)
	for at > 0 && st.Points[at-1].At.After(p.At) && st.Points[at-1].Key != p.Since {
		at--
	}
	st.losses = nil
	st.Points = slices.Insert(st.Points, at, p)
}

// pointOf is the point of a stream, as the stream tells.
func (st *store) pointOf(file string, size int64) (catalogue.Point, error) {
	f, err := os.OpenFile(filepath.Join(st.dir, file), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return catalogue.Point{}, err
	}
	defer f.Close()
	r, err := delta.NewReader(f)
	if err == nil {
		err = delta.Ends(f, size)
	}
	if err != nil {
		return catalogue.Point{}, err
	}
	return catalogue.PointOf(file, size, r.Header())
}

// path is that of the stream of a point.
func (st *store) path(p catalogue.Point) string { return filepath.Join(st.dir, p.File) }

// find is the point with a key, nil if there is none.
func (st *store) find(key repository.Key) *catalogue.Point {
	if at := st.Find(key); at >= 0 {
		return &st.Points[at]
	}
	return nil
}

// save replaces the catalogue, durably.
func (st *store) save() error {
	return replace(filepath.Join(st.dir, catalogue.Name), st.Write)
}

// remove takes points away. The catalogue says first which: of whatever interrupts that, none comes back.
func (st *store) remove(gone []catalogue.Point) error {
	if len(gone) == 0 {
		return nil
	}
	for _, p := range gone {
		st.Removed = append(st.Removed, p.File)
	}
	st.losses = nil
	st.Points = slices.DeleteFunc(st.Points, func(p catalogue.Point) bool { return slices.Contains(st.Removed, p.File) })
	if err := st.save(); err != nil {
		return err
	}
	return st.sweep()
}

// sweep removes the streams that are no points any more.
func (st *store) sweep() error {
	if len(st.Removed) == 0 {
		return nil
	}
	for _, file := range slices.Backward(st.Removed) { // should somebody have lost the catalogue, what is left is whole
		if err := os.Remove(filepath.Join(st.dir, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := syncDirectory(st.dir); err != nil {
		return err
	}
	st.Removed = nil
	return st.save()
}

// disksIn are the disks of which a directory has backups.
func disksIn(dir string) (disks []repository.Key, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		key, err := repository.ParseKey(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		disks = append(disks, key)
	}
	return disks, nil
}

// storeOf is what a directory has of the disk that is called so: by its key, the beginning of that, or its name.
func storeOf(dir, text string) (*store, error) {
	disks, err := disksIn(dir)
	if err != nil {
		return nil, err
	}
	var found []*store
	for _, disk := range disks {
		st, err := openStore(dir, disk)
		if err != nil {
			if strings.HasPrefix(string(disk), strings.ToLower(text)) {
				return nil, err
			}
			note("%v", err)
			continue
		}
		if len(st.Points) > 0 && (string(disk) == strings.ToLower(text) || st.Name == text && text != "" || len(text) >= 4 && strings.HasPrefix(string(disk), strings.ToLower(text))) {
			found = append(found, st)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fault.Hint(fmt.Errorf("%s has no backup of a disk %q", dir, fault.Shorten(text)), "srctl backups lists what it has")
	}
	var all []string
	for _, st := range found {
		all = append(all, fmt.Sprintf("%s (%q)", st.Disk, fault.Shorten(st.Name)))
	}
	return nil, fault.Hint(fmt.Errorf("%q may be several disks: %s", fault.Shorten(text), strings.Join(all, ", ")), "name one by its key")
}
