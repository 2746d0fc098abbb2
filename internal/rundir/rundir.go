package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"reflinksr/internal/dirfs"
)

// Path holds what is about this boot of this host. It is on tmpfs and gone with
// the boot, as are the things it speaks of. Only tests give it another place, where they
// may write: before anything else.
var Path = "/run/reflinksr"

// Subdirectories of Path that several packages know.
const (
	Attached = "sr"     // which SRs are attached
	Volumes  = "volume" // which volumes have a device: notes and their locks
)

// Open opens a subdirectory of Path, made if absent.
func Open(name string) (*dirfs.Dir, error) {
	run, err := dirfs.OpenDir(filepath.Dir(Path))
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.Make(filepath.Base(Path)); err != nil {
		return nil, err
	}
	top, err := dirfs.OpenDir(Path) // not by Sub: it may be a filesystem of its own
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := dirfs.SetMode(top.File(), 0o700); err != nil {
		return nil, err
	}
	return top.Mkdir(name)
}

// Look is Open for who only reads: it makes nothing, and is os.ErrNotExist
// if nothing was ever noted there.
func Look(name string) (*dirfs.Dir, error) {
	top, err := dirfs.OpenDir(Path)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	return top.Sub(name)
}

// EachNote calls do for every note in a subdirectory of Path, with its name without .json, until do fails. Where nothing was ever
// noted there is none.
func EachNote(subdirectory string, do func(dir *dirfs.Dir, name string) error) error {
	dir, err := Look(subdirectory)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, file := range names {
		if name, isNote := strings.CutSuffix(file, ".json"); isNote {
			if err := do(dir, name); err != nil {
				return err
			}
		}
	}
	return nil
}
