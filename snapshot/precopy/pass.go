package precopy

import (
	"fmt"
	"time"

	"reflinksr/internal/extent"
)

// The first pass clones everything once, in pieces of so many extents that a call takes about
// pieceTime: for that long it holds the guest's writes.
const (
	pieceTime    = time.Millisecond
	fewest, most = 16, 1024
	pieceBytes   = 1 << 30 // also where there are few extents
	// Where a guest writes it gets a part of the time, as each call is followed by a pause.
	pauseShare = 4
)

func (t *taker) pieces() error {
	extents := 4 * fewest
	cursor := ahead{cursor: extent.NewCursorAsIs(t.disk.File, 0)}
	for at := int64(0); at < t.size; {
		end, full, err := t.piece(&cursor, at, extents)
		if err != nil {
			return err
		}
		took, err := t.first(at, end)
		if err != nil {
			return err
		}
		switch {
		case took > pieceTime:
			extents = max(fewest, extents*2/3)
		case took < pieceTime/2 && full:
			extents = min(most, extents*5/4)
		}
		at = end
	}
	return nil
}

// piece is where a piece ends, and whether that is for its extents.
func (t *taker) piece(cursor *ahead, at int64, extents int) (end int64, full bool, err error) {
	for n := 0; n < extents; n++ {
		e, ok, err := cursor.peek()
		if err != nil {
			return 0, false, err
		}
		if !ok {
			end, full = t.size, false
			break
		}
		if end = e.Logical + e.Length; end-at > pieceBytes {
			full = false
			break // it is a later piece's as well
		}
		cursor.read = false
		full = n == extents-1
	}
	// An extent may begin within a block that an earlier one ended in, and lie beyond the end of the file.
	return min(t.size, max(at+t.block, (end+t.block-1)/t.block*t.block), at+pieceBytes), full, nil
}

// ahead reads extents, the next one as often as it is asked for.
type ahead struct {
	cursor   extent.Cursor
	next     extent.Extent
	read, ok bool // next is read; it is one
}

func (a *ahead) peek() (extent.Extent, bool, error) {
	if !a.read {
		next, ok, err := a.cursor.Next()
		if err != nil {
			return next, false, err
		}
		a.next, a.ok, a.read = next, ok, true
	}
	return a.next, a.ok, nil
}

// progress tells how much of the first pass is done, if a further part in a hundred is.
func (t *taker) progress(from, to int64) {
	if percent := int(to * 99 / t.size); percent > int(from*99/t.size) {
		t.disk.Progress(percent)
	}
}

// first clones the bytes [at, end) for the first time.
func (t *taker) first(at, end int64) (took time.Duration, err error) {
	if limit := roundsLimit + passLimit*t.disk.Stall; time.Since(t.started) > limit {
		return 0, fmt.Errorf("%w: its first pass has taken more than %v", ErrGaveUp, limit)
	}
	if err := t.writeOut(at, end-at); err != nil {
		return 0, err
	}
	busy, err := t.rounds.first(at/t.block, (end+t.block-1)/t.block)
	if err != nil {
		return 0, err
	}
	took = t.calls[len(t.calls)-1]
	t.progress(at, end)
	t.result.Pieces++
	if err := t.commitPass(); err != nil {
		return took, err
	}
	if busy {
		time.Sleep(took / pauseShare)
	}
	return took, nil
}
