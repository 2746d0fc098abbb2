package check

import (
	"errors"
	"fmt"
	"slices"

	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/sr"
	"reflinksr/volume"
)

// lookAtVolume looks at record and data.
func (e *examination) lookAtVolume(key sr.Key, f *finding) error {
	damage := func(name string, err error) {
		f.add(Problem{Kind: Damage, Name: name, Key: key, Text: err.Error(), Repair: Nothing("restore it from a backup; what is there is left as it is")})
	}
	r, err := volume.Load(e.s, key)
	if errors.Is(err, fault.ErrVolumeNotFound) {
		f.there = false
		return nil
	}
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Record(key), err)
	}
	f.record = r
	if r != nil && r.Format > layout.Format {
		f.add(Problem{Kind: NewerFormat, Name: sr.Record(key), Key: key, Note: true,
			Text: fmt.Sprintf("its record has format %d, this version knows %d: the volume is read-only here", r.Format, layout.Format), Repair: Nothing("update reflinksr on this host")})
	}
	st, err := volume.StatData(e.s, key)
	switch {
	case errors.Is(err, fault.ErrVolumeNotFound):
		*f = finding{}
		return nil
	case passing(err):
		return err
	case err != nil:
		if !slices.Contains(e.survey.Staged[key], "") { // else it is there, and unfinished
			damage(sr.Data(key), err)
		}
		return nil
	}
	if r == nil {
		return nil
	}
	exposed, err := e.exposure(key, r, st)
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Record(key), err)
	}
	f.add(exposed...)
	f.add(sizes(key, r, st.Size)...)
	err = e.lookAtData(key, f)
	if passing(err) {
		return err
	}
	if err != nil {
		damage(sr.Data(key), err)
	}
	return nil
}
