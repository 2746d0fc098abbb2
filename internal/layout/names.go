package layout

// HostsDir is the part of the control directory that tells which hosts have an SR attached,
// a file for each, by its UUID. Only what several hosts can have mounted has it.
const HostsDir = "hosts"

const (
	MarkerFile = "sr.json"    // the marker: a directory that has none is no SR
	ControlDir = ".reflinksr" // all that is not a volume
)

// TombstoneFile is the marker of an SR that has been destroyed but is not yet erased.
const TombstoneFile = "sr.json.destroyed"

// DestroyManifest names, in the control directory, the files of an SR that is being destroyed.
const DestroyManifest = "doomed"

// ShortLocks are locks of the control directory that are held for a part of a call.
var ShortLocks = []string{LeasesLock, CBTLock}

const (
	LeasesLock = "leases.lock" // for the change of a lease
	CBTLock    = "cbt.lock"    // for what is known of volumes whose data was destroyed
)

// LoopMark begins the name that the loop device of a volume is given; the key follows.
const LoopMark = "reflinksr:"

// DiskLabel is the label of the filesystems that SR.create makes.
const DiskLabel = "reflinksr"

const (
	SequenceDir  = "sequence" // of rundir.Path
	SequenceFile = "sequence" // of the control directory
)
