package source

import (
	"fmt"

	"reflinksr/internal/blockdev"
)

// ofSR names the SR that a call is about, for within a sentence: a probe knows none.
func (c Configuration) ofSR() string {
	if c.UUID == "" {
		return ""
	}
	return " of SR " + c.UUID
}

// whenCopied says what to do when a disk is there twice. A disk of several must never get
// another UUID: its tool would write that to what it takes for the others as well.
func whenCopied(sb blockdev.Superblock) string {
	const alone = "disconnect that; or, with the original disconnected and the copy not mounted, give the copy another UUID (%s)"
	switch {
	case sb.Devices > 1:
		return fmt.Sprintf("disconnect that. The filesystem is on %d disks: give none of them another UUID (no btrfstune), or the SR is lost", sb.Devices)
	case sb.Kind == "xfs":
		return fmt.Sprintf(alone, "xfs_admin -U generate")
	}
	return fmt.Sprintf(alone, "btrfstune -u")
}

// missing says which disks of so many are not there, as far as their numbers tell.
func (o onDisks) missing(want uint64) string {
	there := uint64(len(o.disks))
	known := map[uint64]bool{}
	for _, l := range o.disks {
		known[l.Super.DeviceID] = true
	}
	var missing []string
	for id := uint64(1); id <= want && o.disks[there-1].Super.DeviceID <= want; id++ {
		if !known[id] {
			missing = append(missing, fmt.Sprint("disk ", id))
		}
	}
	switch {
	case missing != nil:
		return isOrAre(missing)
	case want-there == 1:
		return "1 of them is"
	}
	return fmt.Sprintf("%d of them are", want-there)
}
