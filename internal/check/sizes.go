package check

import (
	"fmt"

	"reflinksr/internal/layout"
	"reflinksr/sr"
	"reflinksr/volume"
)

// sizes: data of another length than the record says, or of an odd one. No call of ours, at
// whatever moment it is interrupted, leaves data shorter than its record says.
func (e *examination) sizes(key sr.Key, f *finding) error {
	f.add(wrongSizes(key, f.record, f.data.Size)...)
	return nil
}

func wrongSizes(key sr.Key, r *volume.Record, size int64) (problems []Problem) {
	switch told := int64(r.Size); {
	case size < told:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Data(key), Key: key,
			Text:   fmt.Sprintf("the data has %d bytes, its record says %d: it was cut short by something else", size, told),
			Repair: nothing("restore the data from a backup; truncate -s makes it long enough to be attached, with zeros for what is lost")})
	case size > told && r.Format >= 1 && r.Format <= layout.Format:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Record(key), Key: key, Note: true, Repairable: true,
			Text: fmt.Sprintf("its record says %d bytes, the data has %d, which is what counts", told, size), Repair: "corrects the record"})
	case size > told:
		problems = append(problems, Problem{Kind: WrongSize, Name: sr.Record(key), Key: key, Note: true,
			Text:   fmt.Sprintf("its record says %d bytes, the data has %d, which is what counts", told, size),
			Repair: nothing("the record is not of our making; the next change of the volume corrects it")})
	}
	if size%volume.SizeUnit == 0 {
		return problems
	}
	p := Problem{Kind: WrongSize, Name: sr.Data(key), Key: key, Note: true,
		Text:   fmt.Sprintf("the data has %d bytes, which is no multiple of %d", size, volume.SizeUnit),
		Repair: nothing("it is rounded up when the volume is next attached for writing")}
	if !r.Created.IsZero() {
		p.Note, p.Text = false, p.Text+": it was not so when it was made" // an adopted volume may be so
	}
	return append(problems, p)
}
