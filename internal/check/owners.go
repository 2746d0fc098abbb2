package check

import (
	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// exposure is about who can read record and data. Those of an adopted volume are
// the operator's until it is changed.
func (e *examination) exposure(key sr.Key, r *volume.Record, data *unix.Stat_t) (problems []Problem, err error) {
	record, err := e.s.Root.Stat(sr.Record(key))
	if fault.Unseen(err) {
		return nil, err
	}
	if err != nil {
		return nil, nil // it changes at this moment
	}
	for name, st := range map[string]*unix.Stat_t{sr.Record(key): record, sr.Data(key): data} {
		text := Exposure(st)
		switch {
		case text == "":
		case r.Format >= 1:
			problems = append(problems, Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Repairable: true, Repair: "chown root, chmod 0600"})
		default:
			problems = append(problems, Problem{Kind: WrongMode, Name: name, Key: key, Text: text, Note: true,
				Repair: Nothing("the volume was adopted and its files are yours: chmod 0600 them if nobody else needs them")})
		}
	}
	return problems, nil
}
