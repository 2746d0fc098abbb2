package check

import "reflinksr/sr"

// leakedDevices: loop devices of the volume's data though no domain of this host has the volume.
func (e *examination) leakedDevices(key sr.Key, f *finding) error {
	if len(f.note.Domains) > 0 {
		return nil
	}
	for _, d := range f.devices {
		p := Problem{Kind: LeakedDevice, Name: d.Path(), Key: key, Text: "it is bound to the volume's data, but no domain of this host has the volume",
			Repair: nothing("somebody may be using it; losetup -d " + d.Path() + " when nobody does")}
		if f.note.Stuck {
			p.Text, p.Repair, p.Repairable = "it could not be unbound when the last domain was detached", "unbinds it", true
		}
		f.add(p)
	}
	return nil
}
