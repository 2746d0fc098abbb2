package fault

import "errors"

// The classes of failure. Test for them with errors.Is; a front end turns each into its own code, in one table. All
// else is an unexpected failure of the system, and of those an input/output error is told as one (IsIO).
//
// Each comment says which operations give it.
var (
	// ErrInvalid: what was asked for makes no sense: an argument, a configuration, a revert to what is no snapshot,
	// an activation without an attachment. Any operation.
	ErrInvalid = errors.New("invalid argument")
	// ErrSize: a size, offset or length that cannot be. Creating, resizing, changed blocks.
	ErrSize = errors.New("invalid size")
	// ErrSRNotFound: there is no SR at that place, or not the one that was asked for. Attaching, probing, checking.
	ErrSRNotFound = errors.New("no such SR")
	// ErrNotAttached: this host has no such SR attached. Whatever takes an SR's handle.
	ErrNotAttached = errors.New("SR not attached")
	// ErrUnavailable: the SR is there, but its directory, disk, server or marker cannot be used now. Whatever opens an SR.
	ErrUnavailable = errors.New("SR not available")
	// ErrSRExists: there is an SR already, or another with its UUID. Creating and attaching an SR.
	ErrSRExists = errors.New("SR exists")
	// ErrSRInUse: somebody has the SR, its disk, or a file that is to be written over. Creating, attaching, detaching and
	// destroying an SR; writing to a file or device.
	ErrSRInUse = errors.New("SR in use")
	// ErrUnsuitable: the place cannot hold an SR: no reflink, not blank, a program is missing. Creating an SR, probing.
	ErrUnsuitable = errors.New("unsuitable filesystem")
	// ErrVolumeNotFound: the SR has no volume with that key. Whatever takes a key.
	ErrVolumeNotFound = errors.New("no such volume")
	// ErrVolumeExists: there is something with the key that a new volume is to have. Creating, snapshotting, cloning, converting
	// with a key of the caller's.
	ErrVolumeExists = errors.New("volume exists")
	// ErrNotEmpty: there are volumes in the SR. Destroying an SR that is to be empty.
	ErrNotEmpty = errors.New("SR not empty")
	// ErrInUse: somebody on this host has the volume. Destroying, reverting, composing, destroying data, activating.
	ErrInUse = errors.New("volume in use")
	// ErrElsewhere: another host has it active; the item is that host. The same operations.
	ErrElsewhere = errors.New("active on another host")
	// ErrDamaged: a file of the volume is missing, unreadable as what it must be, or not the one that a guest has. Whatever
	// reads a volume.
	ErrDamaged = errors.New("damaged volume")
	// ErrNewer: a newer version wrote it, and this one leaves it alone. Whatever would change it.
	ErrNewer = errors.New("written by a newer version")
	// ErrNoSpace: the filesystem or a quota is full. Whatever writes; destroying works on.
	ErrNoSpace = errors.New("no space")
	// ErrReadOnly: the filesystem, or this mount of it, is read-only. Whatever writes.
	ErrReadOnly = errors.New("read-only filesystem")
	// ErrBusy: a lock could not be had in time; the text names who has it. Whatever locks.
	ErrBusy = errors.New("locked for too long")
	// ErrOtherFS: blocks cannot be shared between two filesystems. Copying to another SR.
	ErrOtherFS = errors.New("on another filesystem")
	// ErrNoData: the volume's data was destroyed, and only tells what others have changed since. Whatever needs the data.
	ErrNoData = errors.New("data destroyed")
	// ErrNoCBT: changed blocks were not to be asked for when the volume was made. Changed blocks, destroying data.
	ErrNoCBT = errors.New("no changed block tracking")
	// ErrNoExtents: the filesystem does not tell which blocks files share (NFS). Comparing, changed blocks, destroying data,
	// composing.
	ErrNoExtents = errors.New("filesystem without extent maps")
	// ErrUnrelated: the two volumes have no snapshot in common. Changed blocks, composing.
	ErrUnrelated = errors.New("unrelated volumes")
)
