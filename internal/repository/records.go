package repository

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Record is one of the small files of an SR, as it is.
type Record struct {
	Name  string `json:"name"`            // below the SR's directory
	Text  string `json:"text"`            // whatever it is
	Error string `json:"error,omitempty"` // why it could not be read, or ""
}

// Records reads all that the SR's files say of its disks: the marker, the records of volumes, who has them active; and which files are
// unfinished, without their contents. Nothing of a disk's contents is read. It stops when ctx ends.
func (s SR) Records(ctx context.Context) (all []Record, err error) {
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	read := func(dir *dirfs.Dir, below, name string) {
		data, err := dir.Read(name, record.Limit)
		switch {
		case err == nil:
			all = append(all, Record{Name: below + name, Text: string(data)})
		case !errors.Is(err, fs.ErrNotExist): // else it has gone meanwhile
			all = append(all, Record{Name: below + name, Error: fault.Shorten(err.Error())})
		}
	}
	read(open.Root, "", layout.MarkerFile)
	keys, err := volume.Keys(open)
	if err != nil {
		return all, err
	}
	for _, key := range keys {
		if err := context.Cause(ctx); err != nil {
			return all, err
		}
		read(open.Root, "", sr.Record(key))
	}
	below := func(name string) string { return layout.ControlDir + "/" + name + "/" }
	leases, err := open.Leases.Names()
	slices.Sort(leases)
	for _, name := range leases {
		read(open.Leases, below("leases"), name)
	}
	staged, e := open.Staging.Names()
	slices.Sort(staged)
	for _, name := range staged {
		all = append(all, Record{Name: below("staging") + name})
	}
	return all, errors.Join(err, e)
}
