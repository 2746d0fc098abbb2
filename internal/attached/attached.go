package attached

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
)

// SR is what this boot of this host knows of an attached SR, so that an
// SR whose directory has vanished can still be named, and is not taken for empty.
type SR struct {
	Path        string `json:"path"`
	UUID        string `json:"uuid"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Interface   string `json:"interface,omitempty"` // by which it was attached: SMAPIv1, or "" for that of today
	Recovered   bool   `json:"recovered,omitempty"` // what former boots left has been looked for
}

// Recovered says whether what former boots of this host left in the SR has been looked for
// since this boot has it attached.
func Recovered(handle string) (bool, error) {
	a, err := Find(handle)
	return a.Recovered, err
}

// SetRecovered notes that it has.
func SetRecovered(handle string) error {
	a, err := Find(handle)
	if err != nil || a.Recovered {
		return err
	}
	return a.Edit(func(a *SR) { a.Recovered = true })
}

// Handle is the SR's handle.
func (a SR) Handle() string { return layout.Handle(a.Path, a.UUID) }

// Edit changes what is noted, unless the SR has been detached meanwhile.
func (a SR) Edit(change func(*SR)) error {
	return With(a.UUID, func(dir *dirfs.Dir) error {
		now, err := Lookup(a.UUID)
		if errors.Is(err, os.ErrNotExist) || err == nil && now.Path != a.Path {
			return nil
		}
		if err != nil {
			return err
		}
		change(&now)
		return now.SaveIn(dir)
	})
}

// SaveIn notes it in the directory dir, which With gives.
func (a SR) SaveIn(dir *dirfs.Dir) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return dir.Publish(a.UUID+".json", data)
}

// With runs do with the directory of attachments, and the SR's entry
// locked in it.
func With(uuid string, do func(*dirfs.Dir) error) error {
	dir, err := rundir.Open(rundir.Attached)
	if err != nil {
		return err
	}
	defer dir.Close()
	return Noted(dir, uuid, "SR "+uuid+" on this host", func() error { return do(dir) })
}

// Noted runs do with the note of an SR locked. The lock file stays as long as the note does:
// who gives back what is noted must not need room for one.
func Noted(d *dirfs.Dir, uuid, what string, do func() error) error {
	lock, err := d.Lock(uuid+".lock", what)
	if err != nil {
		return err
	}
	defer func() {
		if there, err := d.Exists(uuid + ".json"); err == nil && !there {
			lock.Discard()
		} else {
			lock.Unlock()
		}
	}()
	return do()
}

// Lookup finds an attached SR by its UUID; os.ErrNotExist if it is not attached.
func Lookup(uuid string) (a SR, err error) {
	dir, err := rundir.Look(rundir.Attached)
	if err != nil {
		return a, err
	}
	defer dir.Close()
	data, err := dir.Read(uuid+".json", record.Limit)
	if err != nil {
		return a, err
	}
	return parseAttachment(data, uuid)
}

// parseAttachment reads what is noted of the SR with that UUID.
func parseAttachment(data []byte, uuid string) (a SR, err error) {
	err = json.Unmarshal(data, &a)
	if err == nil && a.UUID != uuid {
		err = fmt.Errorf("it speaks of SR %q", fault.Shorten(a.UUID))
	}
	if err == nil {
		_, _, err = layout.ParseHandle(a.Handle())
	}
	if err != nil {
		return SR{}, fmt.Errorf("what is noted of SR %s in %s/sr/%s.json is damaged: attach the SR again: %w", uuid, rundir.Path, uuid, err)
	}
	return a, nil
}

// NoteFile is the file that notes that the SR with that UUID is attached.
func NoteFile(uuid string) string {
	return filepath.Join(rundir.Path, rundir.Attached, uuid+".json")
}

// Find finds an attached SR by its handle: ErrNotAttached if it is not.
func Find(handle string) (SR, error) {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return SR{}, err
	}
	a, err := Lookup(uuid)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return a, err
	}
	if err != nil || a.Path != path {
		return a, fault.Hint(fault.Errorf(fault.ErrNotAttached, handle, "SR %s is not attached on this host", path),
			"attach it first")
	}
	return a, nil
}

// Handles lists the handles of the SRs attached on this host.
func Handles() ([]string, error) {
	handles := []string{}
	err := rundir.EachNote(rundir.Attached, func(_ *dirfs.Dir, uuid string) error {
		a, err := Lookup(uuid)
		switch {
		case err == nil:
			handles = append(handles, a.Handle())
		case errors.Is(err, os.ErrNotExist): // detached meanwhile
		case fault.Unseen(err):
			return err // it can be read again in a moment, and is attached
		default:
			slog.Error("an attached SR is left out", "uuid", uuid, "err", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return handles, nil
}

// At finds the handle of the attached SR at an absolute path.
func At(path string) (string, error) {
	handles, err := Handles()
	if err != nil {
		return "", err
	}
	path, err = layout.CleanPath(path)
	if err != nil {
		return "", err
	}
	for _, handle := range handles {
		if p, _, err := layout.ParseHandle(handle); err == nil && p == path {
			return handle, nil
		}
	}
	return "", fault.Errorf(fault.ErrNotAttached, path, "no SR is attached at %s on this host", path)
}
