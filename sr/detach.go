package sr

import (
	"errors"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/mount"
	"reflinksr/internal/source"
)

// Detach forgets the SR on this host, and unmounts what Attach has mounted for it: if
// that is in use, the SR stays attached. Detaching what is not attached, or is gone,
// succeeds.
func Detach(handle string) error {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return err
	}
	stay := func() {}
	if a, err := attached.Find(handle); err == nil {
		stay = leaving(a)
	}
	if path != mount.Point(uuid) {
		return removeAttachment(handle, uuid)
	}
	return source.WithNote(uuid, func(notes *dirfs.Dir) error {
		if err := source.Unmount(notes, uuid); err != nil {
			stay()
			return err
		}
		return removeAttachment(handle, uuid)
	})
}

func removeAttachment(handle, uuid string) error {
	if _, err := attached.Find(handle); errors.Is(err, fault.ErrNotAttached) {
		return nil
	}
	return attached.With(uuid, func(dir *dirfs.Dir) error {
		removeSequenceNote(uuid)
		return errors.Join(removeKeysNote(dir, uuid), dir.Remove(uuid+".json"))
	})
}

func attachmentOf(m *layout.Meta, path string) attached.SR {
	return attached.SR{Path: path, UUID: m.UUID, Name: m.Name, Description: m.Description}
}
