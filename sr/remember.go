package sr

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/rundir"
)

// What volumes an SR has is told by its directory. A filesystem that has failed may not be
// able to list that, though it can still open what it knows: btrfs after an aborted
// transaction is so. So that guests' disks can then still be found and read, this host
// notes the keys that it has seen, for this boot: a file of lines, which only grows.
//
// It is whole or it is not there: it begins with a listing, and whoever makes a volume and
// cannot add its key removes it. Keys of destroyed volumes stay in it; whoever uses it looks.
// On shared SRs there is none, for other hosts make volumes as well.

// HasFailed says whether an error comes from a filesystem that has failed for good: it could
// not be read, and lets nobody write any more. Only this host can have it mounted.
func (s *SR) HasFailed(err error) bool {
	if !fault.IsIO(err) || s.Meta.Filesystem.Clustered() {
		return false
	}
	what, _, e := filesystem.ReadOnly(s.Root)
	return e == nil && what != ""
}

// keysFile is the name of the note, beside that of the attached SR.
func (s *SR) keysFile() string { return s.Meta.UUID + ".keys" }

// Remember notes, after list has listed them, that the SR has volumes with these keys.
// What can go wrong only means that less can be done later.
func (s *SR) Remember(list func() ([]Key, error)) ([]Key, error) {
	if s.Meta.Filesystem.Clustered() {
		return list()
	}
	dir, err := rundir.Look(rundir.Attached)
	if err != nil {
		return list()
	}
	defer dir.Close()
	keys, err := list()
	if err != nil {
		return keys, err
	}
	if known, e := readKeys(dir, s.keysFile()); e == nil && holdsAll(known, keys) && len(known) < 2*len(keys)+1000 {
		return keys, nil
	}
	lock, e := dir.LockFile(s.keysFile(), "the keys of SR "+s.Path, dirfs.Exclusive, true)
	if e != nil {
		return keys, nil // somebody is at it
	}
	defer lock.Unlock()
	// Once more: who has made a volume since has seen no file, or waits for the lock.
	if keys, err = list(); err == nil {
		err = lock.File().Truncate(0)
	}
	if err == nil {
		_, err = lock.File().WriteAt(lines(keys), 0)
	}
	if err != nil {
		dir.Remove(s.keysFile())
	}
	return keys, nil
}

// RememberNew notes a volume that was just made, once it is there.
func (s *SR) RememberNew(key Key) {
	if s.Meta.Filesystem.Clustered() {
		return
	}
	dir, err := rundir.Look(rundir.Attached)
	if err != nil {
		return
	}
	defer dir.Close()
	if there, err := dir.Exists(s.keysFile()); err == nil && !there {
		return
	}
	lock, err := dir.LockFile(s.keysFile(), "the keys of SR "+s.Path, dirfs.Exclusive, false)
	if err == nil {
		defer lock.Unlock()
		var end int64
		if end, err = lock.File().Seek(0, io.SeekEnd); err == nil && end > 0 { // 0: just made, by the line before
			_, err = lock.File().WriteAt(lines([]Key{key}), end)
		}
	}
	if err != nil {
		slog.Warn("the keys of the SR's volumes are not noted any more", "sr", s.Path, "err", err)
		dir.Remove(s.keysFile())
	}
}

// Remembered are the keys of volumes that the SR has or had, all that this host has seen.
func (s *SR) Remembered() ([]Key, error) {
	dir, err := rundir.Look(rundir.Attached)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return readKeys(dir, s.keysFile())
}

// keysLimit bounds what is read of the note, in bytes: some 1.8 million keys.
const keysLimit = 64 << 20

func readKeys(dir *dirfs.Dir, name string) ([]Key, error) {
	data, err := dir.Read(name, keysLimit)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, os.ErrNotExist // one is being made
	}
	var keys []Key
	for line := range strings.Lines(string(data)) {
		if key, err := ParseKey(strings.TrimSuffix(line, "\n")); err == nil {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

func holdsAll(known, keys []Key) bool {
	for _, key := range keys {
		if _, found := slices.BinarySearch(known, key); !found {
			return false
		}
	}
	return true
}

// lines begins with an empty one, so that even a listing of nothing is no empty file.
func lines(keys []Key) []byte {
	out := []byte{'\n'}
	for _, key := range keys {
		out = append(append(out, key...), '\n')
	}
	return out
}

// removeKeysNote removes the note of an SR that is detached.
func removeKeysNote(dir *dirfs.Dir, uuid string) error { return dir.Remove(uuid + ".keys") }
