package precopy

import (
	"errors"

	"reflinksr/internal/track"
)

// ErrGaveUp says that no moment was found: the guest writes too much, or somebody else came in. The
// clone holds whatever it holds.
var ErrGaveUp = errors.New("the disk could not be cloned while it is written to")

var errNoMark = errors.New("the kernel's trace does not tell of a mark that was made in it")

// IsNoMoment says whether an error of Take leaves the disk to be cloned in another way: nothing is
// wrong with the disk or the filesystem.
func IsNoMoment(err error) bool {
	for _, one := range []error{ErrGaveUp, errNoMark, track.ErrUnsupported, track.ErrLost} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
