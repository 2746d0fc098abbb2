package attached

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// placeTimeout bounds the wait for the paths of attached SRs.
const placeTimeout = 3 * time.Second

// Containing says which SR's directory a file is in, or would be if it were made, also
// somewhere below it: "" if in none. The SR need not be attached, nor have been adopted
// yet; and the file may be reached by links and by any mount of the same filesystem, of
// which a part can be mounted elsewhere. What cannot be looked at is an error: nobody
// knows then.
//
// Another filesystem that is mounted below an SR's directory is not a part of the SR.
func Containing(path string) (dir string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if path, err = realParent(path); err != nil {
		return "", err
	}
	attached, err := attachedPlaces()
	if err != nil {
		return "", err
	}
	places, err := ancestors(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	for _, place := range places {
		is, err := looksLikeSR(place)
		if err != nil {
			return "", fmt.Errorf("whether %s is in an SR's directory cannot be told: %w", path, err)
		}
		// One whose marker is not to be seen now (its filesystem is not mounted) counts as well.
		if is || slices.Contains(attached, place) {
			return place, nil
		}
	}
	return "", nil
}

// attachedPlaces are the directories of the attached SRs, as they were given, and without
// links where that can be found out in time: what is on a filesystem that does not answer is
// not what is asked about, which does.
func attachedPlaces() (places []string, err error) {
	handles, err := Handles()
	if err != nil {
		return nil, err
	}
	real := make(chan string, len(handles))
	for _, handle := range handles {
		at, _, err := layout.ParseHandle(handle)
		if err != nil {
			return nil, err
		}
		places = append(places, at)
		go func() {
			path, err := filepath.EvalSymlinks(at)
			if err != nil {
				path = at
			}
			real <- path
		}()
	}
	deadline := time.After(placeTimeout)
	for range handles {
		select {
		case path := <-real:
			places = append(places, path)
		case <-deadline:
			return places, nil
		}
	}
	return places, nil
}

// realParent is the path of a file that is not there yet, without links on the way.
func realParent(path string) (string, error) {
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// ancestors lists a directory and those that it is in on its filesystem, by every path that
// leads to them.
func ancestors(dir string) (places []string, err error) {
	mounts, err := mountsByID()
	if err != nil {
		return nil, err
	}
	id, err := mountID(dir)
	if err != nil {
		return nil, err
	}
	own, known := mounts[id]
	inside, err := filepath.Rel(own.path, dir)
	if !known || err != nil || !filepath.IsLocal(inside) {
		return nil, fmt.Errorf("%s: the mount that it is on is not listed in /proc/self/mountinfo", dir)
	}
	inside = filepath.Join(own.root, inside) // where it is in the filesystem
	for id, m := range mounts {
		if m.device != own.device {
			continue
		}
		for at := inside; ; at = filepath.Dir(at) {
			below, err := filepath.Rel(m.root, at)
			if err != nil || !filepath.IsLocal(below) {
				break // this mount does not reach up to there
			}
			place := filepath.Join(m.path, below)
			// Something else may be mounted over it, or over what it is in.
			there, err := mountID(place)
			if fault.Unseen(err) && !errors.Is(err, os.ErrPermission) {
				return nil, err
			}
			if err == nil && there == id {
				places = append(places, place)
			}
			if at == "/" {
				break
			}
		}
	}
	if !slices.Contains(places, dir) {
		return nil, fmt.Errorf("%s was replaced while it was looked at", dir)
	}
	slices.Sort(places)
	return places, nil
}

// rooted is a line of mountinfo, as far as it says which part of a filesystem is where.
type rooted struct{ device, root, path string }

func mountsByID() (map[int]rooted, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	mounts := map[int]rooted{}
	for _, e := range mountinfo.Parse(string(table)) {
		if id, err := strconv.Atoi(e.ID); err == nil {
			mounts[id] = rooted{e.Device, e.Root, e.Path}
		}
	}
	return mounts, nil
}

// mountID is the number, in mountinfo, of the mount that a directory is on.
func mountID(dir string) (int, error) {
	fd, err := sys.Retry(func() (int, error) { return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.Atoi(strings.TrimSpace(id))
		}
	}
	return 0, fmt.Errorf("/proc does not tell which mount %s is on", dir)
}

// looksLikeSR says whether a directory is an SR's, or becomes one when it is adopted: by the
// marker, or what is left of one, and by the control directory; by a record with its data.
func looksLikeSR(dir string) (bool, error) {
	if filepath.Base(dir) == layout.ControlDir {
		return true, nil
	}
	for _, name := range []string{layout.MarkerFile, layout.TombstoneFile, layout.ControlDir} {
		if there, err := isThere(filepath.Join(dir, name)); err != nil || there {
			return there, err
		}
	}
	d, err := os.Open(dir)
	if errors.Is(err, os.ErrPermission) {
		return false, nil // no SR of this host, which must be able to list it
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	for { // not all at once: it is anybody's directory
		names, err := d.Readdirnames(1000)
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, name := range names {
			key, isRecord := strings.CutSuffix(name, ".inf")
			if !isRecord || !uuids.IsCanonical(key) {
				continue
			}
			if there, err := isThere(filepath.Join(dir, key)); err != nil || there {
				return there, err
			}
		}
	}
}

func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
