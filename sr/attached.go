package sr

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
)

// attachment is what this boot of this host knows of an attached SR, so that an
// SR whose directory has vanished can still be named, and is not taken for empty.
type attachment struct {
	Path        string `json:"path"`
	UUID        string `json:"uuid"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Recovered   bool   `json:"recovered,omitempty"` // what former boots left has been looked for
}

// Recovered says whether what former boots of this host left in the SR has been looked for
// since this boot has it attached.
func Recovered(handle string) (bool, error) {
	a, err := find(handle)
	return a.Recovered, err
}

// SetRecovered notes that it has.
func SetRecovered(handle string) error {
	a, err := find(handle)
	if err != nil || a.Recovered {
		return err
	}
	return a.edit(func(a *attachment) { a.Recovered = true })
}

func (a attachment) handle() string { return Handle(a.Path, a.UUID) }

func (m *Meta) attachment(path string) attachment {
	return attachment{Path: path, UUID: m.UUID, Name: m.Name, Description: m.Description}
}

// edit changes what is noted, unless the SR has been detached meanwhile.
func (a attachment) edit(change func(*attachment)) error {
	return withAttachments(a.UUID, func(dir *dirfs.Dir) error {
		now, err := lookup(a.UUID)
		if errors.Is(err, os.ErrNotExist) || err == nil && now.Path != a.Path {
			return nil
		}
		if err != nil {
			return err
		}
		change(&now)
		return now.saveIn(dir)
	})
}

func (a attachment) saveIn(dir *dirfs.Dir) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return dir.Publish(a.UUID+".json", data)
}

// withAttachments runs do with the directory of attachments, and the SR's entry
// locked in it.
func withAttachments(uuid string, do func(*dirfs.Dir) error) error {
	dir, err := rundir.Open("sr")
	if err != nil {
		return err
	}
	defer dir.Close()
	return noted(dir, uuid, "SR "+uuid+" on this host", func() error { return do(dir) })
}

// noted runs do with the note of an SR locked. The lock file stays as long as the note does:
// who gives back what is noted must not need room for one.
func noted(d *dirfs.Dir, uuid, what string, do func() error) error {
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

// lookup finds an attached SR by its UUID; os.ErrNotExist if it is not attached.
func lookup(uuid string) (a attachment, err error) {
	dir, err := rundir.Look("sr")
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
func parseAttachment(data []byte, uuid string) (a attachment, err error) {
	err = json.Unmarshal(data, &a)
	if err == nil && a.UUID != uuid {
		err = fmt.Errorf("it speaks of SR %q", fault.Shorten(a.UUID))
	}
	if err == nil {
		_, _, err = ParseHandle(a.handle())
	}
	if err != nil {
		return attachment{}, fmt.Errorf("what is noted of SR %s in %s/sr/%s.json is damaged: attach the SR again: %w", uuid, rundir.Path, uuid, err)
	}
	return a, nil
}

// find finds an attached SR by its handle: ErrNotAttached if it is not.
func find(handle string) (attachment, error) {
	path, uuid, err := ParseHandle(handle)
	if err != nil {
		return attachment{}, err
	}
	a, err := lookup(uuid)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return a, err
	}
	if err != nil || a.Path != path {
		return a, fault.Errorf(fault.ErrNotAttached, handle, "SR %s is not attached on this host: call SR.attach first", path)
	}
	return a, nil
}

// Attached lists the handles of the SRs attached on this host.
func Attached() ([]string, error) {
	dir, err := rundir.Look("sr")
	if errors.Is(err, os.ErrNotExist) {
		return []string{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	handles := []string{}
	for _, name := range names {
		uuid, ok := strings.CutSuffix(name, ".json")
		if !ok {
			continue
		}
		a, err := lookup(uuid)
		switch {
		case err == nil:
			handles = append(handles, a.handle())
		case errors.Is(err, os.ErrNotExist): // detached meanwhile
		case fault.Unseen(err):
			return nil, err // it can be read again in a moment, and is attached
		default:
			slog.Error("an attached SR is left out", "uuid", uuid, "err", err)
		}
	}
	return handles, nil
}

// AttachedAt finds the handle of the attached SR at an absolute path.
func AttachedAt(path string) (string, error) {
	handles, err := Attached()
	if err != nil {
		return "", err
	}
	path, err = cleanPath(path)
	if err != nil {
		return "", err
	}
	for _, handle := range handles {
		if p, _, err := ParseHandle(handle); err == nil && p == path {
			return handle, nil
		}
	}
	return "", fault.Errorf(fault.ErrNotAttached, path, "no SR is attached at %s on this host", path)
}
