package check

import (
	"errors"
	"fmt"
	"os"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
	"reflinksr/sr"
)

// use: what this host notes of the volume, and the loop devices that it has, for the rules of use. A note that cannot be
// read is a problem, and nothing can be said of the rest then.
func (e *examination) use(key sr.Key, f *finding) error {
	if !e.survey.sound {
		return nil
	}
	// Devices before the note: attach notes before it binds, detach forgets after it
	// has unbound.
	devices, err := e.devices(key)
	if err != nil {
		return err
	}
	if e.noted[key] || e.leased[key] || len(devices) > 0 || len(e.survey.staged[key]) > 0 {
		f.note, err = e.note(key)
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
	if len(devices) > 0 && len(f.note.Domains) == 0 {
		// Both again: between the two looks a detach may have ended.
		if devices, err = e.devices(key); err != nil {
			return err
		}
	}
	f.devices = devices
	return ask(e.ofUse(), key, f)
}

// note reads what this host notes of the volume.
func (e *examination) note(key sr.Key) (lease.Note, error) {
	if e.runtime == nil {
		return lease.Note{}, nil
	}
	return lease.ReadNote(e.runtime, lease.NoteName(e.s.Meta.UUID, key))
}

func (e *examination) noteFile(key sr.Key) string {
	return rundir.Path + "/" + rundir.Volumes + "/" + lease.NoteName(e.s.Meta.UUID, key) + ".json"
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
