package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// writebackPiece is how much is written to a file before the kernel is told to begin with it, in bytes: less would make more extents
// than need be, for one is not longer than what is written at once.
const writebackPiece = 64 << 20

// Writeback has the kernel write what a long copy puts into a file, from its beginning to its end, while that goes on: else it would
// begin when the copy waits for all of it.
type Writeback struct{ begun int64 }

// Wrote tells that the file was written up to there. That it cannot be begun does not matter: it is written in the end.
func (w *Writeback) Wrote(f *os.File, end int64) {
	if end-w.begun >= writebackPiece {
		_ = unix.SyncFileRange(int(f.Fd()), w.begun, end-w.begun, unix.SYNC_FILE_RANGE_WRITE)
		w.begun = end
	}
}
