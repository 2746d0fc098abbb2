package check

import (
	"fmt"

	"reflinksr/internal/layout"
	"reflinksr/sr"
	"reflinksr/volume"
)

// lineage: where the volumes say that they come from.
func lineage(_ *examination, keys []sr.Key, all []finding) (problems []Problem) {
	records, there := make(map[sr.Key]*finding, len(all)), make(map[sr.Key]bool, len(all))
	for i := range all {
		there[keys[i]] = all[i].there
		if all[i].record != nil {
			records[keys[i]] = &all[i]
		}
	}
	inCircle := circles(records)
	for _, key := range keys {
		f := records[key]
		if f == nil || f.record.Origin == nil || f.record.Format > layout.Format {
			continue
		}
		add := func(kind ProblemKind, note bool, repair, format string, args ...any) {
			problems = append(problems, Problem{Kind: kind, Name: sr.Record(key), Key: key, Note: note, Text: fmt.Sprintf(format, args...), Repair: nothing(repair)})
		}
		const record = "correct origin in the record, or make it null: the data does not depend on it"
		o := f.record.Origin
		of := records[o.Of]
		_, malformed := sr.ParseKey(string(o.Of))
		switch {
		case o.Kind != volume.Snapshot && o.Kind != volume.Clone && o.Kind != volume.Copy:
			add(Lineage, false, record, "its origin is of the unknown kind %q", o.Kind)
		case malformed != nil:
			add(Lineage, false, record, "its origin is %q, which is no key", o.Of)
		case inCircle[key]:
			add(Lineage, false, record, "it is its own origin, by way of %s", o.Of)
		case !there[o.Of]:
			add(Lineage, true, "that is normal, its data is complete", "it is a %s of %s, which is no more or is in another SR", o.Kind, o.Of)
		}
		if of == nil {
			continue
		}
		if of.record.SectorSize != f.record.SectorSize {
			add(WrongSector, true, "it stays so for the volume's life", "it has sectors of %d bytes, its origin %s of %d: neither can be reverted to the other", f.record.SectorSize, o.Of, of.record.SectorSize)
		}
		if of.bare != f.bare && f.looked && of.looked {
			problems = append(problems, Problem{Kind: OddAttributes, Name: sr.Data(key), Key: key, Note: true,
				Text:   fmt.Sprintf("nodatacow is %v, for its origin %s it is %v: one of the two has checksums, the other has none, so they share no blocks and cannot be composed", f.attrs.NoCOW, o.Of, of.attrs.NoCOW),
				Repair: nothing("a file that is not empty cannot be given checksums, nor lose them; a revert makes the one as the other is")})
		}
	}
	return problems
}

// circles finds the volumes whose origins lead back to them.
func circles(records map[sr.Key]*finding) map[sr.Key]bool {
	in := map[sr.Key]bool{}
	walk := make(map[sr.Key]sr.Key, len(records)) // where the walk that came by had begun
	for start := range records {
		at := start
		for walk[at] == "" {
			walk[at] = start
			f := records[at]
			if f == nil || f.record.Origin == nil {
				break
			}
			at = f.record.Origin.Of
		}
		if f := records[at]; walk[at] != start || f == nil || f.record.Origin == nil {
			continue
		}
		// This very walk has come back to where it was.
		for ; !in[at]; at = records[at].record.Origin.Of {
			in[at] = true
		}
	}
	return in
}
