package check

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/sr"
)

// control: parts of the control directory that are missing or not what they should be.
func control(s *sr.SR, v *survey) error {
	problems, err := controlParts(s)
	if err != nil {
		return err
	}
	v.add(problems...)
	v.add(exposed(s, s.Root, layout.MarkerFile, layout.MarkerFile, "")...)
	return nil
}

func controlParts(s *sr.SR) (problems []Problem, err error) {
	if alive, err := s.Root.Exists(layout.MarkerFile); err != nil || !alive {
		return nil, err
	}
	var failed error
	judge := func(d *dirfs.Dir, name, path string) {
		st, err := d.Stat(name)
		switch {
		case errors.Is(err, os.ErrNotExist):
			problems = append(problems, Problem{Kind: MissingControl, Name: path, Repairable: true,
				Text: "this part of the control directory is missing: it was not restored with the rest, perhaps", Repair: "makes it"})
		case st == nil:
			failed = errors.Join(failed, err)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			problems = append(problems, Problem{Kind: Damage, Name: path, Text: "not a directory", Repair: Nothing("move it away, then repair")})
		default:
			problems = append(problems, tooOpen(st, path, "")...)
		}
	}
	judge(s.Root, layout.ControlDir, layout.ControlDir)
	if s.Control == nil || failed != nil {
		return problems, failed
	}
	for _, path := range s.Fixed() {
		problems = append(problems, Problem{Kind: OddAttributes, Name: path,
			Text: "it has an attribute that keeps files from being made, renamed or removed in it", Repair: Nothing("chattr -i -a " + path)})
	}
	for name := range s.Subdirs() {
		judge(s.Control, name, layout.ControlDir+"/"+name)
	}
	readOnly, remedy, err := filesystem.ReadOnly(s.Root)
	if err != nil {
		return problems, err
	}
	if readOnly != "" {
		problems = append(problems, Problem{Kind: ReadOnly, Name: s.Path, Note: true,
			Text: readOnly + ": volumes can be read but not changed", Repair: Nothing(remedy)})
	}
	if failed != nil {
		return problems, failed
	}
	for _, name := range append([]string{"lock", layout.DestroyManifest, layout.SequenceFile}, layout.ShortLocks...) {
		problems = append(problems, exposed(s, s.Control, name, layout.ControlDir+"/"+name, "")...)
	}
	if s.Staging == nil {
		return problems, nil
	}
	there, err := s.Staging.Exists(layout.MarkerFile + ".new")
	if err != nil || !there {
		return problems, err
	}
	busy := ""
	if s.Lock == nil {
		var lock *dirfs.Lock
		if lock, busy, err = s.Control.LookLockFor("lock", dirfs.LookTimeout); err != nil {
			return problems, err
		}
		lock.Unlock()
		if there, err = s.Staging.Exists(layout.MarkerFile + ".new"); err != nil || !there {
			return problems, err
		}
	}
	p := Problem{Kind: Unfinished, Name: layout.ControlDir + "/staging/" + layout.MarkerFile + ".new", Repairable: true,
		Text: "a new marker, left in staging by an interrupted change of its name or description, or by its creation", Repair: "removes it"}
	return append(problems, p.During(busy)), nil
}
