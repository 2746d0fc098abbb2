package check

import "reflinksr/sr"

// Problem is something about an SR that is not as it should be, or that is worth
// knowing.
type Problem struct {
	Kind       ProblemKind `json:"kind"`
	Name       string      `json:"name"`          // the file: below the SR's directory, else an absolute path
	Key        sr.Key      `json:"key,omitempty"` // the volume, if it is about one
	Text       string      `json:"text"`
	Repairable bool        `json:"repairable"`
	Repair     string      `json:"repair"` // what a repair does; else "nothing: ", why, and what to do
	Note       bool        `json:"-"`      // nothing is wrong, it is only worth knowing
}

// ProblemKind says what sort of problem it is.
type ProblemKind string

// The kinds of problems.
const (
	Damage         ProblemKind = "damage"     // a file that is missing, unreadable or not what it must be
	NewerFormat    ProblemKind = "newer"      // a file of a newer version
	WrongPlace     ProblemKind = "filesystem" // the SR is not on the filesystem that it was made on, or is a copy
	OlderHosts     ProblemKind = "hosts"      // hosts with older kernels cannot mount the filesystem
	MissingControl ProblemKind = "control"    // a part of the control directory is missing
	Orphan         ProblemKind = "orphan"     // data without a record
	UnknownFile    ProblemKind = "unknown"    // a file in the control directory that is none of ours
	Unfinished     ProblemKind = "unfinished" // what an interrupted call left
	StaleLease     ProblemKind = "lease"      // a lease of what is no more
	StaleLock      ProblemKind = "lock"       // a lock file of a volume that is no more
	StaleNote      ProblemKind = "cbt"        // what a destroyed snapshot knows, of a volume that is none
	WrongMode      ProblemKind = "mode"       // others may read what only root should
	WrongSize      ProblemKind = "size"       // data and record disagree, or the data's length is odd
	Lineage        ProblemKind = "lineage"    // where a volume's blocks came from
	WrongSector    ProblemKind = "sector"     // another sector size than its origin's
	OddAttributes  ProblemKind = "attributes" // of a data file
	LeftDisk       ProblemKind = "throwaway"  // a nonpersistent disk
	LeakedDevice   ProblemKind = "device"     // a loop device that nobody here has
	RuntimeNote    ProblemKind = "runtime"    // what this host notes in /run
	NoIdentity     ProblemKind = "identity"   // of this host
	ReadOnly       ProblemKind = "read-only"  // the filesystem, or the subvolume
)

// nothing is the Repair of what a repair leaves alone.
func nothing(why string) string { return "nothing: " + why }

// during is the problem as it is to be seen while the process busy, if any, is
// changing what it is about: a note.
func (p Problem) during(busy string) Problem {
	if busy == "" {
		return p
	}
	p.Note, p.Repairable = true, false
	p.Text += "; a call goes on now: " + busy
	p.Repair = nothing("that call will; look again when it has ended")
	return p
}
