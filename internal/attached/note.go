package attached

import (
	"encoding/json"
	"errors"
	"os"
	"strings"

	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
)

// IsDom0 says whether a domain is dom0: the toolstack calls it u0_<what for>.
func IsDom0(domain string) bool { return domain == "0" || strings.HasPrefix(domain, "u0") }

// Note is what package datapath/lease notes of the device of a volume, as far as it says
// whose that is.
type Note struct {
	Volume  string   `json:"-"`   // what it is of, in words
	Dev     uint64   `json:"dev"` // of the file
	Ino     uint64   `json:"ino"`
	Domains []string `json:"domains"`
	Active  []struct {
		Domain string `json:"domain"`
		Write  bool   `json:"write"`
	} `json:"active"`
}

// NoteOfFile finds the note of a volume whose device is of that file; nil if there is none.
func NoteOfFile(dev, ino uint64) (*Note, error) {
	dir, err := rundir.Look(rundir.Volumes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		// <uuid of the SR>.<key>.json, see package datapath/lease.
		key, is := strings.CutSuffix(name, ".json")
		if !is || len(key) != 73 {
			continue
		}
		note := Note{Volume: "volume " + key[37:] + " of SR " + key[:36]}
		// One that is damaged says nothing of this file; the name that the device was
		// given still does.
		data, err := dir.Read(name, record.Limit)
		if err == nil && json.Unmarshal(data, &note) == nil && note.Ino == ino && note.Dev == dev {
			return &note, nil
		}
	}
	return nil, nil
}
