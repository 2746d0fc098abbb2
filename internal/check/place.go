package check

import (
	"errors"
	"fmt"
	"os"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// place: whether the SR is attached on this host, and whether here: else this is a copy.
func place(s *sr.SR, v *survey) error {
	if s.Meta.UUID == "" {
		return nil
	}
	a, err := attached.Lookup(s.Meta.UUID)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case fault.Unseen(err):
		return err
	case err != nil:
		v.add(Problem{Kind: RuntimeNote, Name: rundir.Path + "/sr/" + s.Meta.UUID + ".json",
			Text: err.Error(), Repair: Nothing("attach the SR again")})
		return nil
	}
	there, err := dirfs.OpenDir(a.Path)
	if err != nil && (a.Path == s.Path || !fault.Unseen(err)) {
		v.attached = a.Path == s.Path
		return nil
	}
	if err != nil {
		return fmt.Errorf("SR %s is attached on this host at %s, which cannot be looked at: %w: detach it there first", s.Meta.UUID, a.Path, err)
	}
	defer there.Close()
	one, err := sys.Fstat(there.File())
	if err != nil {
		return err
	}
	two, err := sys.Fstat(s.Root.File())
	if err != nil {
		return err
	}
	v.attached = one.Dev == two.Dev && one.Ino == two.Ino
	if v.elsewhere = !v.attached; v.elsewhere {
		v.sound = false
		v.add(Problem{Kind: WrongPlace, Name: layout.MarkerFile,
			Text:   fmt.Sprintf("SR %s is attached on this host at %s: this is a copy of it", s.Meta.UUID, a.Path),
			Repair: Nothing("remove one of the two; nothing else in this SR is repaired while the other is attached")})
	}
	return nil
}
