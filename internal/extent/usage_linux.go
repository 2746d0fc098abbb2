package extent

import (
	"os"

	"reflinksr/internal/sys"
)

// Usage is what a file occupies.
type Usage struct {
	Shared    int64 // bytes that other files hold as well
	Exclusive int64 // bytes that no other file holds
	Extents   int

	// GivesBack is how many bytes destroying the file gives back. XFS gives back every block that no other file
	// holds. btrfs gives back whole extents only, those of which no other file has a piece: that includes
	// bytes which this file held once, and no longer does (Pinned); and of a compressed extent it is what that takes.
	GivesBack int64
	Pinned    int64
}

// UsageOf walks the extents of a file.
func UsageOf(f *os.File) (Usage, error) {
	var u Usage
	err := Each(f, func(e Extent) bool {
		u.Extents++
		if e.Shared() {
			u.Shared += e.Length
		} else {
			u.Exclusive += e.Length
		}
		return true
	})
	if u.GivesBack = u.Exclusive; err != nil {
		return u, err
	}
	if kind, err := sys.KindOf(f); err != nil || kind != "btrfs" {
		return u, err
	}
	if takes, hidden, err := whole(f); err == nil { // else not as root: it is this much at least
		u.GivesBack, u.Pinned = takes, hidden
	}
	return u, nil
}
