package check

import (
	"fmt"

	"reflinksr/internal/fault"
	"reflinksr/sr"
)

// orphan: data that belongs to no volume, past or future.
func (e *examination) orphan(key sr.Key, f *finding) error {
	if f.there || len(f.problems) > 0 {
		return nil
	}
	if _, err := e.s.Root.Stat(sr.Data(key)); fault.Unseen(err) {
		return err
	} else if err != nil {
		return nil // none, or a directory or link of somebody's
	}
	if e.s.Staging != nil {
		if staged, err := e.s.Staging.Exists(sr.Record(key)); err != nil || staged {
			return err // it was on its way in or out, and the next look tells
		}
	}
	f.add(Problem{Kind: Orphan, Name: sr.Data(key), Key: key,
		Text:   "data without a record, which is no volume",
		Repair: nothing(fmt.Sprintf("it may be the only copy of something: give it a record %s to make it a volume, or move it away", sr.Record(key)))})
	return nil
}
