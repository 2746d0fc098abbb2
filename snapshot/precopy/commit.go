package precopy

import (
	"math"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// A commit of btrfs holds up all who write to the filesystem, the longer the more is to be committed. So what is cloned is made
// durable on the way, after so much of it:
const (
	commitPieces  = 50   // of the first pass, of pieceTime each
	commitExtents = 4096 // of an earlier state, one beside the other
	commitRuns    = 128  // of what was written meanwhile here and there: each is in leaves of its own of some trees

	// A guest that writes to so many blocks meanwhile is held up by its own commits, and while they are made it writes more
	// than was cloned: then they are fewer.
	busyBlocks  = 512
	commitsBusy = 6 // times commitPieces
	mostRuns    = 64 * commitRuns
)

// commit has the filesystem of a file make everything durable.
func commit(f *os.File) error {
	if err := sys.Do(func() error { return unix.Syncfs(int(f.Fd())) }); err != nil {
		return &os.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return nil
}

// commitPass is commit in the first pass, now and then.
func (t *taker) commitPass() error {
	if !t.btrfs || t.result.Pieces%commitPieces != 0 {
		return nil
	}
	dirty := t.rounds.dirty.Len()
	if dirty-t.committed > busyBlocks && t.result.Pieces%(commitPieces*commitsBusy) != 0 {
		return nil
	}
	err := commit(t.dst)
	t.committed = t.rounds.dirty.Len()
	return err
}

// thin clones on btrfs what was written during the first pass, without an eye to a moment, until little is written meanwhile or it gets no less:
// then the rounds have few runs to clone, and the last commit has little to do.
func (t *taker) thin() error {
	if !t.btrfs {
		return nil
	}
	for last := math.MaxInt; ; {
		runs := t.rounds.dirty.Runs()
		if len(runs) <= commitRuns || len(runs) > min(last*3/4, mostRuns) {
			return nil
		}
		last = len(runs)
		for i, run := range runs {
			if err := t.again(run.From, run.To); err != nil {
				return err
			}
			if (i+1)%commitRuns == 0 {
				if err := commit(t.dst); err != nil {
					return err
				}
			}
		}
	}
}

// again clones blocks another time; those that are written from here on the trace tells.
func (t *taker) again(from, to int64) error {
	for from < to {
		end, err := t.length(from, to)
		if err != nil {
			return err
		}
		if err := t.writeOut(from*t.block, (end-from)*t.block); err != nil {
			return err
		}
		if _, err := t.rounds.first(from, end); err != nil {
			return err
		}
		t.rounds.recount += end - from
		from = end
	}
	return nil
}

// durable makes the clone that, where the caller's fsync would hold up more: of a file that was cloned into, btrfs logs all extents, which
// takes 1.8 s at a million and holds up a guest's write for 100 ms and more, and a commit 0.05 s and 25 ms.
func (t *taker) durable() error {
	if !t.btrfs {
		return nil
	}
	return commit(t.dst)
}
