package check

import (
	"errors"
	"fmt"
	"os"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// marker: whether sr.json can be read, and the SR is on the filesystem that it was made on.
func marker(s *sr.SR) ([]Problem, error) {
	m, err := layout.ReadMeta(s.Root)
	one := func(kind ProblemKind, name, text, repair string) ([]Problem, error) {
		return []Problem{{Kind: kind, Name: name, Text: text, Repair: repair}}, nil
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		old, err := layout.ReadDestroyed(s.Root)
		if fault.Unseen(err) {
			return nil, err
		}
		if err != nil || old == nil {
			return one(Damage, layout.TombstoneFile, fmt.Sprintf("what is left of a destroyed SR cannot be read: %v", err), nothing("whose files these are nobody can tell; remove them by hand"))
		}
		return []Problem{{Kind: Unfinished, Name: layout.TombstoneFile, Repairable: true,
			Text:   fmt.Sprintf("SR %s was destroyed, and that was interrupted while its files were removed", old.UUID),
			Repair: "removes the rest of the destroyed SR's files, as attaching it, or creating an SR there, would"}}, nil
	case errors.Is(err, fault.ErrNewer):
		return one(NewerFormat, layout.MarkerFile, err.Error(), nothing("update reflinksr on this host"))
	case errors.Is(err, fault.ErrUnavailable):
		return one(Damage, layout.MarkerFile, err.Error(), nothing("restore it from a backup; nothing else in this SR is repaired before"))
	case err != nil:
		return nil, err
	}
	err = (&sr.SR{Path: s.Path, Root: s.Root}).SameFilesystem(m)
	if errors.Is(err, fault.ErrUnavailable) {
		return one(WrongPlace, layout.MarkerFile, err.Error(), nothing("mount the right filesystem, or srctl rehome; nothing else in this SR is repaired before"))
	}
	return nil, err
}
