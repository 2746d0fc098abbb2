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

// recordAndData: a record that cannot be read or is of a newer version, and data that is not there or is no file of
// ours. If both can be looked at, the rules of data are asked.
func (e *examination) recordAndData(key sr.Key, f *finding) error {
	if !f.there {
		return nil
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
		f.damaged(sr.Record(key), key, err)
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
		if !slices.Contains(e.survey.staged[key], "") { // else it is there, and unfinished
			f.damaged(sr.Data(key), key, err)
		}
		return nil
	}
	if r == nil {
		return nil
	}
	f.data = st
	return ask(e.ofData(), key, f)
}

// damaged adds what cannot be read, or is not what it must be.
func (f *finding) damaged(name string, key sr.Key, err error) {
	f.add(Problem{Kind: Damage, Name: name, Key: key, Text: err.Error(), Repair: Nothing("restore it from a backup; what is there is left as it is")})
}
