package check

import "reflinksr/sr"

// forgotten: what this host notes of a volume that is not there.
func (e *examination) forgotten(key sr.Key, f *finding) error {
	if !e.noted[key] || f.there || f.note.Empty() {
		return nil
	}
	p := Problem{Kind: RuntimeNote, Name: e.noteFile(key), Key: key, Repairable: true,
		Text: "this host notes who has the volume attached, but the volume is no more", Repair: "removes the note"}
	devices, err := e.bound.Of(f.note.Dev, f.note.Ino, string(key))
	if err != nil || len(devices) > 0 {
		p.Repairable, p.Repair = false, nothing("its device is still there: detach the volume from all its domains")
	}
	f.add(p)
	return nil
}
