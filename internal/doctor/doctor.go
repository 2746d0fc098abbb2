// Package doctor looks whether a host can have SRs: what it has, what it lacks, and what to do about that.
// It changes nothing, but for a mount of tracefs that nobody else sees and that goes at once.
package doctor

import "slices"

// Verdict is how a finding is meant.
type Verdict string

const (
	Fine Verdict = "fine" // as it should be
	Note Verdict = "note" // something is slower, or cannot be had here
	Bad  Verdict = "bad"  // SRs cannot be made or used
)

// Finding is what was seen of one thing.
type Finding struct {
	What    string  `json:"what"` // in a word or two
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`             // what is so
	Remedy  string  `json:"remedy,omitempty"` // what to do, if anything is to be done
}

// Host looks at this host. It may be called by anybody; what only root can see is said to be so.
func Host() []Finding {
	return slices.Concat(
		[]Finding{lookAtKernel(), lookAtIdentity(), lookAtLoops(), lookAtTracing()},
		lookAtFilesystems(),
		lookAtPrograms(),
		[]Finding{lookAtRoom("/"), lookAtRoom("/run"), lookAtSELinux()},
	)
}

// Worst is the worst verdict of all.
func Worst(all []Finding) Verdict {
	for _, v := range []Verdict{Bad, Note} {
		if slices.ContainsFunc(all, func(f Finding) bool { return f.Verdict == v }) {
			return v
		}
	}
	return Fine
}
