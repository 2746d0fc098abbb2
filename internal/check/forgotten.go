package check

import (
	"reflinksr/datapath/lease"
	"reflinksr/sr"
)

// noteWithoutVolume is what this host notes of a volume that is not there.
func (e *examination) noteWithoutVolume(key sr.Key, note lease.Note) []Problem {
	p := Problem{Kind: RuntimeNote, Name: e.noteFile(key), Key: key, Repairable: true,
		Text: "this host notes who has the volume attached, but the volume is no more", Repair: "removes the note"}
	devices, err := e.bound.Of(note.Dev, note.Ino, string(key))
	if err != nil || len(devices) > 0 {
		p.Repairable, p.Repair = false, Nothing("its device is still there: detach the volume from all its domains")
	}
	return []Problem{p}
}
