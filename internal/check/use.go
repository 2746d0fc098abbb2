package check

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
)

// lookAtUse looks at leases, throw-away disks, devices and what this host notes.
func (e *examination) lookAtUse(key sr.Key, f *finding) error {
	if !e.survey.Sound {
		return nil
	}
	// Devices before the note: attach notes before it binds, detach forgets after it
	// has unbound.
	devices, err := e.devices(key)
	if err != nil {
		return err
	}
	var note lease.Note
	if e.noted[key] || e.leased[key] || len(devices) > 0 || len(e.survey.Staged[key]) > 0 {
		note, err = e.note(key)
	}
	if fault.Unseen(err) {
		return err
	}
	if err != nil {
		f.add(Problem{Kind: RuntimeNote, Name: e.noteFile(key), Key: key,
			Text:   fmt.Sprintf("what is attached on this host cannot be read: %v", err),
			Repair: Nothing("detach the volume from all its domains")})
		return nil
	}
	if e.noted[key] && !f.there && !note.Empty() {
		f.add(e.noteWithoutVolume(key, note)...)
	}
	if len(devices) > 0 && len(note.Domains) == 0 {
		// Both again: between the two looks a detach may have ended.
		if devices, err = e.devices(key); err != nil {
			return err
		}
	}
	if err := lease.InPlaceAmong(e.s, key, note, e.bound); errors.Is(err, fault.ErrDamaged) {
		// Who only looked for the file may have told it: that it is to be restored is not true.
		f.problems = slices.DeleteFunc(f.problems, func(p Problem) bool { return p.Kind == Damage && p.Text == err.Error() })
		f.add(Problem{Kind: Damage, Name: sr.Data(key), Key: key, Text: err.Error(),
			Repair: Nothing("what is right only you can tell")})
	} else if err != nil {
		return err
	}
	f.add(e.formerIdentity(key, note)...)
	for _, d := range devices {
		if len(note.Domains) > 0 {
			break
		}
		p := Problem{Kind: LeakedDevice, Name: d.Path(), Key: key, Text: "it is bound to the volume's data, but no domain of this host has the volume",
			Repair: Nothing("somebody may be using it; losetup -d " + d.Path() + " when nobody does")}
		if note.Stuck {
			p.Text, p.Repair, p.Repairable = "it could not be unbound when the last domain was detached", "unbinds it", true
		}
		f.add(p)
	}
	left, err := e.nonpersistent(key, note, f.there)
	if err != nil {
		return err
	}
	f.add(left...)
	return e.lookAtLease(key, note, f)
}

// note reads what this host notes of the volume.
func (e *examination) note(key sr.Key) (lease.Note, error) {
	if e.runtime == nil {
		return lease.Note{}, nil
	}
	return lease.ReadNote(e.runtime, lease.NoteName(e.s.Meta.UUID, key))
}

func (e *examination) noteFile(key sr.Key) string {
	return rundir.Path + "/" + lease.NoteDir + "/" + lease.NoteName(e.s.Meta.UUID, key) + ".json"
}

// devices are those of the volume's files.
func (e *examination) devices(key sr.Key) (all []loop.Device, err error) {
	note, err := e.note(key)
	if err != nil {
		note = lease.Note{} // it is told of elsewhere
	}
	for dir, name := range map[*dirfs.Dir]string{e.s.Root: sr.Data(key), e.s.Staging: note.NonpersistentName(key, e.me)} {
		if dir == nil || !e.bound.Any(string(key)) {
			continue
		}
		st, err := dir.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if st == nil {
			return nil, err
		}
		found, err := e.bound.Of(st.Dev, st.Ino, string(key))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
