package datapath

import (
	"errors"
	"os"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
	"reflinksr/volume"
)

// isNoted says whether this host has a note of the volume.
func isNoted(uri string) (bool, error) {
	_, uuid, key, err := volume.ParseURI(uri)
	if err != nil {
		return false, err
	}
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return dir.Exists(lease.NoteName(uuid, key) + ".json")
}

// notes opens the directory of notes, made if absent. One that is there needs no room.
func notes() (*dirfs.Dir, error) {
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return rundir.Open(rundir.Volumes)
	}
	return dir, err
}
