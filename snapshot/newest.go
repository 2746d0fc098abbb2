package snapshot

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/hostinfo"
	"reflinksr/snapshot/precopy"
	"reflinksr/sr"
	"reflinksr/volume"
)

var (
	errNoSnapshot = errors.New("it has no snapshot")
	errOldKernel  = errors.New("before Linux 6.2 btrfs does not tell where all of a file's data is")
)

// cloneNewest makes the empty file f a clone of the disk's newest snapshot that has its data, of which the
// disk differs least and whose lock no guest waits for, or of an earlier Moment, and answers what is called so: "" if there is none. It is not waited for.
func (d disk) cloneNewest(f *os.File) (key sr.Key, err error) {
	if d.earlier != nil && d.tellsPlaces() {
		return d.key, precopy.Begin(f, d.earlier)
	}
	base, lock, err := d.openNewest()
	if err != nil {
		slog.Debug("the disk is cloned without regard to its newest snapshot", "key", d.key, "why", err)
		return "", nil
	}
	defer lock.Unlock()
	defer base.Close()
	return sr.Key(filepath.Base(base.Name())), precopy.Begin(f, base)
}

// tellsPlaces says whether the filesystem tells where all of a file's data is.
func (d disk) tellsPlaces() bool {
	return d.sr.Meta.Filesystem.Type != "btrfs" || hostinfo.ThisKernel().AtLeast(6, 2)
}

func (d disk) openNewest() (*os.File, *dirfs.Lock, error) {
	if !d.tellsPlaces() {
		return nil, nil, errOldKernel
	}
	key, err := newestOf(d.sr, d.key)
	if err != nil {
		return nil, nil, err
	}
	// The disk is locked already, and locks are waited for in the order of keys only.
	lock, err := d.sr.TryVolume(key, dirfs.Shared)
	if err != nil {
		return nil, nil, err
	}
	base, err := d.openIfWhole(key)
	if err != nil {
		lock.Unlock()
		return nil, nil, err
	}
	return base, lock, nil
}

// openIfWhole opens a snapshot that has its data still, now that it is locked.
func (d disk) openIfWhole(key sr.Key) (*os.File, error) {
	r, err := volume.Load(d.sr, key)
	if err == nil {
		err = r.MustHaveData(key)
	}
	if err != nil {
		return nil, err
	}
	return volume.OpenData(d.sr, key, unix.O_RDONLY)
}

// newestOf finds the newest snapshot of a volume that has its data.
func newestOf(s *sr.SR, of sr.Key) (newest sr.Key, err error) {
	keys, err := volume.Keys(s)
	if err != nil {
		return newest, err
	}
	var found *volume.Record
	var lock sync.Mutex
	volume.Parallel(len(keys), func(i int) {
		r, err := volume.Load(s, keys[i])
		if err != nil || r.ReadWrite || r.DataDestroyed || r.Origin == nil || r.Origin.Kind != volume.Snapshot || r.Origin.Of != of {
			return // what cannot be read is not used
		}
		lock.Lock()
		defer lock.Unlock()
		if found == nil || found.Older(r) < 0 {
			found, newest = r, keys[i]
		}
	})
	if found == nil {
		return newest, errNoSnapshot
	}
	return newest, nil
}
