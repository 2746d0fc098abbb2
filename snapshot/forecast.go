package snapshot

import (
	"time"

	"reflinksr/internal/track"
)

// Forecast is what a snapshot of a disk that a guest has will come to, about.
type Forecast struct {
	Takes    time.Duration
	Stall    time.Duration // for how long a write of the guest waits
	AtOnce   time.Duration // for how long it would wait where the disk is cloned at once, which takes as long
	Untraced error         // why it is; nil: it need not be
}

// slower is how many times longer a clone takes in pieces than at once, about: a guest gets a part of
// the time, and what it writes is cloned again.
const slower = 2

// Foresee foresees a snapshot of a disk with so many extents.
func Foresee(filesystem string, extents int) Forecast {
	stall := Stall(filesystem, extents)
	if !inPieces(filesystem) || stall <= tolerable {
		return Forecast{stall, stall, stall, nil}
	}
	if err := track.Able(); err != nil {
		return Forecast{stall, stall, stall, err}
	}
	return Forecast{slower * stall, tolerable, stall, nil}
}

// inPieces says whether a disk on a kind of filesystem can be cloned in pieces.
func inPieces(filesystem string) bool {
	// Of NFS the server holds the lock. OCFS2 has locks of its own.
	return filesystem == "btrfs" || filesystem == "xfs"
}
