package check

import (
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// orphan is data that belongs to no volume, past or future.
func (e *examination) orphan(key sr.Key) ([]Problem, error) {
	if _, err := e.s.Root.Stat(sr.Data(key)); fault.Unseen(err) {
		return nil, err
	} else if err != nil {
		return nil, nil // none, or a directory or link of somebody's
	}
	if e.s.Staging != nil {
		if staged, err := e.s.Staging.Exists(sr.Record(key)); err != nil || staged {
			return nil, err // it was on its way in or out, and the next look tells
		}
	}
	return []Problem{{Kind: Orphan, Name: sr.Data(key), Key: key,
		Text:   "data without a record, which is no volume",
		Repair: Nothing(fmt.Sprintf("it may be the only copy of something: give it a record %s to make it a volume, or move it away", sr.Record(key)))}}, nil
}
