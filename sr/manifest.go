package sr

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/sys"
)

// manifestLimit bounds the list, in bytes: half a million volumes.
const manifestLimit = 128 << 20

// identity tells a file from every other that has or will have its name: one that is
// copied there later has another inode or, written over the old one, another time of
// change. Times are compared for being the same only: a clock that jumps decides nothing.
type identity struct {
	Ino     uint64 `json:"ino"`
	Changed int64  `json:"changed"` // nanoseconds
}

func identityOf(d *dirfs.Dir, name string) (id identity, there bool, err error) {
	st, err := d.Stat(name)
	switch {
	case st != nil: // also of what is no regular file
		return identity{st.Ino, st.Ctim.Nano()}, true, nil
	case errors.Is(err, os.ErrNotExist):
		return id, false, nil
	}
	return id, false, err
}

// writeDestroyManifest writes down which files are the volumes' at the end of the SR, for whoever
// finishes its destruction after a crash. A full filesystem has no room for that, and
// can be destroyed all the same.
func (s *SR) writeDestroyManifest() error {
	if err := s.Control.Remove(layout.DestroyManifest); err != nil {
		return err
	}
	// A time of change that is only in memory would be an older one after a power cut.
	if err := sys.Do(func() error { return unix.Syncfs(s.Root.Fd()) }); err != nil {
		return err
	}
	names, err := s.Root.Names()
	if err != nil {
		return err
	}
	list := map[string]identity{}
	for _, name := range names {
		if _, err := ParseKey(strings.TrimSuffix(name, ".inf")); err != nil {
			continue
		}
		id, there, err := identityOf(s.Root, name)
		if err != nil {
			return err
		}
		if there {
			list[name] = id
		}
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	err = s.Control.WriteNew(layout.DestroyManifest, data)
	if fault.Classify(err) == fault.ErrNoSpace {
		slog.Warn("no room to write down what is to be removed with the SR", "path", s.Path, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	return s.Control.Sync()
}

// mine says whether the file of a name may be removed with its SR: it is the SR's, or not
// there. What cannot be looked at may not.
type mine func(name string) (bool, error)

// readDestroyManifest says which files in the directory of an SR that was destroyed are still those
// that were to be removed.
func (s *SR) readDestroyManifest() (ours mine, err error) {
	none := func(string) (bool, error) { return false, nil }
	if s.Control == nil {
		return none, nil // it went after the last of them
	}
	data, err := s.Control.Read(layout.DestroyManifest, manifestLimit)
	if errors.Is(err, os.ErrNotExist) {
		staging, err := s.Control.Sub("staging")
		if errors.Is(err, os.ErrNotExist) {
			return none, nil // so did this
		}
		if err != nil {
			return nil, err
		}
		staging.Close()
		return s.unlisted()
	}
	if err != nil {
		return nil, err
	}
	list := map[string]identity{}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	return func(name string) (bool, error) {
		id, there, err := identityOf(s.Root, name)
		return err == nil && (!there || id == list[name]), err
	}, nil
}

// unlisted is for an SR that there was no room to list the files of: what has changed
// since its end is not its own.
func (s *SR) unlisted() (ours mine, err error) {
	end, err := s.Root.Stat(layout.TombstoneFile)
	if err != nil {
		return nil, err
	}
	return func(name string) (bool, error) {
		id, there, err := identityOf(s.Root, name)
		return err == nil && (!there || id.Changed <= end.Ctim.Nano()), err
	}, nil
}
