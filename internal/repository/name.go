package repository

import (
	"context"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/sr"
	"reflinksr/volume"
)

// SR is the handle of an SR that is attached on this host. Only Attach, Attached and Find make
// one; whatever else a caller has is asked for as any, and is fault.ErrNotAttached.
type SR string

// Attached lists the SRs that are attached on this host.
func Attached(context.Context) ([]SR, error) {
	handles, err := attached.Handles()
	all := make([]SR, len(handles))
	for i, handle := range handles {
		all[i] = SR(handle)
	}
	return all, err
}

// Path is the directory of the SR: fault.ErrNotAttached of what is no handle.
func (s SR) Path() (string, error) {
	path, _, err := layout.ParseHandle(string(s))
	return path, err
}

// Note is the file in which this host notes that it has the SR attached: "" of what is no handle.
func (s SR) Note() string {
	_, uuid, err := layout.ParseHandle(string(s))
	if err != nil {
		return ""
	}
	return attached.NoteFile(uuid)
}

// Key names a volume in its SR. What is only a text becomes one by ParseKey.
type Key = sr.Key

// ParseKey accepts a canonical lower-case UUID and nothing else: what is no key can name no
// volume, which is fault.ErrVolumeNotFound.
func ParseKey(text string) (Key, error) { return sr.ParseKey(text) }

// Volume names a volume of an SR.
type Volume struct {
	SR  SR
	Key Key
}

// ParseVolume is the volume of an SR that a caller calls so. Of an SR that cannot be opened
// the error says so, whatever its volumes may be called; else it is that of ParseKey.
func ParseVolume(s SR, key string) (Volume, error) {
	k, err := ParseKey(key)
	if err == nil {
		return Volume{s, k}, nil
	}
	open, e := sr.Open(string(s), dirfs.Unlocked)
	if e != nil {
		return Volume{}, e
	}
	open.Close()
	return Volume{}, err
}

// Datapath is the URI of a volume, by which a guest's side of it is asked for. Whatever is
// none is fault.ErrVolumeNotFound.
type Datapath string

// Scheme is that of these URIs.
const Scheme = volume.Scheme

// SR is the SR of the volume.
func (d Datapath) SR() (SR, error) {
	handle, _, _, err := volume.ParseURI(string(d))
	return SR(handle), err
}
