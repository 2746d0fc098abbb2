package check

import (
	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// owners: a record or data that others than root can read. Those of an adopted volume are
// the operator's until it is changed.
func (e *examination) owners(key sr.Key, f *finding) error {
	record, err := e.s.Root.Stat(sr.Record(key))
	switch {
	case passing(err):
		return err
	case fault.Unseen(err):
		f.damaged(sr.Record(key), key, err)
		return nil
	case err != nil:
		return nil // it changes at this moment
	}
	for name, st := range map[string]*unix.Stat_t{sr.Record(key): record, sr.Data(key): f.data} {
		text := exposureOf(st)
		switch {
		case text == "":
		case f.record.Format >= 1:
			f.add(Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Repairable: true, Repair: "chown root, chmod 0600"})
		default:
			f.add(Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Note: true,
				Repair: Nothing("the volume was adopted and its files are yours: chmod 0600 them if nobody else needs them")})
		}
	}
	return nil
}
