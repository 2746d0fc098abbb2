package sr

import (
	"fmt"
	"log/slog"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/internal/source"
)

// SetName renames an attached SR: its sr.json, and what this host has noted of it. The
// name is UTF-8 of at most TextLimit bytes, else it is ErrInvalid.
func SetName(handle, name string) error {
	return change(handle, "name", name, func(m *layout.Meta) { m.Name = name })
}

// SetDescription is SetName for the description.
func SetDescription(handle, description string) error {
	return change(handle, "description", description, func(m *layout.Meta) { m.Description = description })
}

func change(handle, item, text string, edit func(*layout.Meta)) error {
	if err := source.CheckText(item, text); err != nil {
		return err
	}
	s, err := Open(handle, dirfs.Exclusive)
	if err != nil {
		return err
	}
	edit(s.Meta)
	err = s.writeMeta(s.Meta)
	s.Close() // SR.attach takes the locks in the order: attachment, SR
	if err != nil {
		return fmt.Errorf("writing %s: %w", s.Root.Join(layout.MarkerFile), err)
	}
	// What is noted of the SR on this host only matters when the SR is gone.
	now := attachmentOf(s.Meta, s.Path)
	if err := now.Edit(func(a *attached.SR) { a.Name, a.Description = now.Name, now.Description }); err != nil {
		slog.Warn("the name noted for when the SR is unreachable is out of date", "sr", handle, "err", err)
	}
	return nil
}

// writeMeta replaces the marker. The caller holds the SR's lock exclusively.
func (s *SR) writeMeta(m *layout.Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return s.Replace(s.Root, layout.MarkerFile, data)
}
