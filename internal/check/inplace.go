package check

import (
	"errors"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// inPlace: a guest's device that is not of the volume's data any more, because somebody has put another file there.
func (e *examination) inPlace(key sr.Key, f *finding) error {
	err := lease.InPlaceAmong(e.s, key, f.note, lease.Listed(e.bound))
	if !errors.Is(err, fault.ErrDamaged) {
		return err
	}
	// Who only looked for the file may have told it: that it is to be restored is not true.
	f.problems = slices.DeleteFunc(f.problems, func(p Problem) bool { return p.Kind == Damage && p.Text == err.Error() })
	f.add(Problem{Kind: Damage, Name: sr.Data(key), Key: key, Text: err.Error(),
		Repair: nothing("what is right only you can tell")})
	return nil
}
