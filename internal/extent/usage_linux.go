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

	// GivesBack is how many bytes destroying the file gives back, and what is shared within the file. XFS gives back every block that no other file
	// holds. btrfs gives back whole extents only, those of which no other file has a piece: that includes
	// bytes which this file held once, and no longer does (Pinned); and of a compressed extent it is what that takes.
	GivesBack int64
	Pinned    int64
}

// UsageOf walks the extents of a file.
func UsageOf(f *os.File) (Usage, error) {
	if kind, err := sys.KindOf(f); err == nil && kind == "btrfs" {
		if u, err := wholeUsage(f); err == nil {
			return u, nil
		} // else not as root: it gives back this much at least
	}
	var u Usage
	err := Each(f, func(e Extent) bool { u.add(e); return true })
	u.GivesBack = u.Exclusive
	return u, err
}

// Glance is UsageOf for who looks often and at many files, and may know less: what is not written out yet is missing, or where it was, and
// nothing is written out for it; nor does it tell what btrfs keeps of whole extents. It asks goOn between two looks at some hundred
// extents each, since whoever writes to the file waits for each of them; where that says no, what was found is not the whole.
func Glance(f *os.File, goOn func() bool) (u Usage, whole bool, err error) {
	c := NewCursorAsIs(f, 0)
	for n := 0; ; n++ {
		if n%fiemapBatch == 0 && !goOn() {
			return u, false, nil
		}
		e, ok, err := c.Next()
		if err != nil || !ok {
			u.GivesBack = u.Exclusive
			return u, err == nil, err
		}
		u.add(e)
	}
}

// add counts an extent.
func (u *Usage) add(e Extent) {
	u.Extents++
	if e.Shared() {
		u.Shared += e.Length
	} else {
		u.Exclusive += e.Length
	}
}
