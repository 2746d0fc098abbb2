package filesystem

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/reflink"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
	"reflinksr/internal/units"
)

// Room is what a directory's filesystem has left for us, and what sets the bound.
type Room struct {
	Total, Free int64  // bytes
	quota       string // that sets it, and not the filesystem's size; "" if none does
	raise       string // what makes it larger
	counted     bool   // the filesystem has only so many inodes
	inodes      uint64 // that are free
}

// What Shortage says.
const (
	Full = "FULL" // nothing is left, or nothing that is of use
	Low  = "LOW"  // hardly anything
)

// usable is what a filesystem has to have left, in bytes, for it not to be full: XFS keeps some blocks for itself.
const usable = 1 << 20

// Shortage says in a word that a filesystem, or a quota, has hardly any room left, in bytes; else "".
func Shortage(free, total int64) string {
	switch {
	case free < usable:
		return Full
	case free < min(total/20, nearlyFull):
		return Low
	}
	return ""
}

// A filesystem is told to be nearly full when less than a twentieth of it is left, at most
// nearlyFull, or inodes for about a hundred disks, each of which has three.
const (
	nearlyFull = 10 << 30
	fewInodes  = 300
)

// RoomOf finds that out.
func RoomOf(d *dirfs.Dir) (Room, error) {
	st, err := sys.Fstatfs(d.File())
	if err != nil {
		return Room{}, err
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	// f_bavail, not f_bfree: on a full btrfs the latter still counts space nobody can have.
	r := Room{Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit, raise: "add space", counted: st.Files > 0, inodes: st.Ffree} // #nosec G115 -- of a filesystem: below 2^63 bytes
	switch sys.KindOfMagic(st) {
	case "btrfs":
		q, limited, err := quotaOf(d)
		if err != nil {
			return r, err
		}
		if limited && q.left < r.Free {
			r.Total, r.Free, r.quota, r.raise = min(r.Total, q.limit), q.left, q.String(), "raise the limit (btrfs qgroup limit)"
		}
	case "xfs":
		// What statfs tells of such a directory is the project's, if that has a quota.
		if project, inherited, err := reflink.ProjectOf(d.File()); err == nil && inherited {
			r.raise = fmt.Sprintf("raise the quota of project %d if it has one (xfs_quota), or add space", project)
		}
	}
	return r, nil
}

// Space returns the size of the filesystem and what is left of it for us, in bytes: of a
// quota, where one leaves less.
func Space(d *dirfs.Dir) (total, free int64, err error) {
	r, err := RoomOf(d)
	return r.Total, r.Free, err
}

// Warning says what is running out, or has: "" if nothing is.
func (r Room) Warning() string {
	var all []string
	what, of := "the filesystem", ""
	if r.quota != "" {
		what, of = "the quota", " of "+r.quota
	}
	const remedy = ", or destroy snapshots and disks"
	switch Shortage(r.Free, r.Total) {
	case Full:
		all = append(all, what+of+" is used up: guests' writes fail, and nothing can be made: "+r.raise+remedy)
	case Low:
		all = append(all, what+of+" is nearly used up: "+units.Bytes(r.Free)+" of "+units.Bytes(r.Total)+" are left: "+r.raise+remedy)
	}
	if r.counted && r.Free > 0 {
		const remedy = ": remove files, or let inodes have a larger share of the filesystem (xfs_growfs -m)"
		switch {
		case r.inodes == 0:
			all = append(all, "the filesystem has no inodes left, so nothing can be made, though "+units.Bytes(r.Free)+" are free"+remedy)
		case r.inodes < fewInodes:
			all = append(all, fmt.Sprintf("the filesystem has %d inodes left, of which a disk takes three, though %s are free%s", r.inodes, units.Bytes(r.Free), remedy))
		}
	}
	return strings.Join(all, "; ")
}

// Explain adds to the error of a call on the SR at path that met ENOSPC or EDQUOT what it
// was that there was no more of: the errno says "space" also of inodes, and "quota" of
// whichever.
func Explain(path string, err error) error {
	quota := errors.Is(err, unix.EDQUOT)
	if !quota && !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), rundir.Path) {
		return err
	}
	d, e := dirfs.OpenDir(path)
	if e != nil {
		return err
	}
	defer d.Close()
	r, e := RoomOf(d)
	switch text := r.Warning(); {
	case e != nil:
	case quota && r.quota != "":
		return fmt.Errorf("%w: the quota of %s has %s left: %s, or destroy snapshots and disks", err, r.quota, units.Bytes(r.Free), r.raise)
	case quota:
		return fmt.Errorf("%w: a quota is used up, not the filesystem, of which %s are free: raise it, or destroy snapshots and disks", err, units.Bytes(r.Free))
	case text != "":
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
