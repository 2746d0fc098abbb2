package attached

import (
	"encoding/json"
	"strings"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/record"
	"reflinksr/internal/rundir"
)

// IsDom0 says whether a domain is dom0: the toolstack calls it u0_<what for>.
func IsDom0(domain string) bool { return domain == "0" || strings.HasPrefix(domain, "u0") }

// Operator is what the domain is called for which srctl attach gives this host a disk.
const Operator = "srctl"

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
func NoteOfFile(dev, ino uint64) (found *Note, err error) {
	err = rundir.EachNote(rundir.Volumes, func(dir *dirfs.Dir, key string) error {
		// <uuid of the SR>.<key>, see package datapath/lease.
		if found != nil || len(key) != 73 {
			return nil
		}
		note := Note{Volume: "volume " + key[37:] + " of SR " + key[:36]}
		// One that is damaged says nothing of this file; the name that the device was
		// given still does.
		data, err := dir.Read(key+".json", record.Limit)
		if err == nil && json.Unmarshal(data, &note) == nil && note.Ino == ino && note.Dev == dev {
			found = &note
		}
		return nil
	})
	return found, err
}
