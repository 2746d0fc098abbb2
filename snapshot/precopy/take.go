package precopy

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/internal/track"
)

// Disk is what is cloned.
type Disk struct {
	File     *os.File      // its data, open for reading
	Device   uint64        // the number of the one block device over it (st_rdev)
	Buffered bool          // its writes go through the page cache
	Begun    bool          // the clone is one of an earlier state of the disk already: only what differs from that is cloned under the disk's lock
	Stall    time.Duration // for how long FICLONE would lock it
	Progress func(percent int)
}

// Result is how it went.
type Result struct {
	Rounds  int
	Pieces  int           // calls in the first pass
	Again   int64         // blocks cloned again
	Differ  int64         // blocks in which the disk may differ from the earlier state
	Longest time.Duration // the longest call that held the disk's lock
	P99     time.Duration // of 100 such calls, 99 took no longer
	Took    time.Duration
}

// Limits of a clone. A guest that writes to more different blocks in a second than are cloned in one has no end.
const (
	roundsLimit = time.Minute
	passLimit   = 20 // times Disk.Stall, after roundsLimit
)

// taker makes one clone.
type taker struct {
	disk    Disk
	dst     *os.File
	size    int64 // bytes
	block   int64 // bytes of the filesystem's blocks
	btrfs   bool
	rounds  *rounds
	started time.Time

	committed int64 // blocks that were dirty at the last commit
	calls     []time.Duration
	result    Result
}

// Take makes the file dst, which is empty or a clone of an earlier state, what the disk holds at a moment of the
// call, while it is written to.
// IsNoMoment tells of an error whether that cannot be done so. It is not durable before dst is fsynced.
//
// The caller has flushed what was written past the device, and sees to it that the disk's file is
// bound to that device alone, before and after.
func Take(dst *os.File, disk Disk) (_ Result, err error) {
	t := &taker{disk: disk, dst: dst, started: time.Now()}
	if err := t.measure(); err != nil {
		return t.result, err
	}
	others, err := watch(disk.File)
	if err != nil {
		return t.result, err
	}
	defer others.close()
	trace, err := track.Open(disk.Device)
	if err != nil {
		return t.result, err
	}
	defer func() {
		if err := trace.Close(); err != nil {
			slog.Warn("a trace could not be removed; the next one tries again", "err", err)
		}
	}()
	t.rounds = newRounds(trace, (t.size+t.block-1)/t.block, t.block/512, t.clone)
	t.rounds.length = t.length
	pass := t.pieces
	if disk.Begun {
		pass = t.relative
	}
	if err = pass(); err == nil {
		err = t.thin()
	}
	if err == nil {
		err = t.end()
	}
	if err == nil {
		err = others.check()
	}
	if err == nil {
		err = t.durable()
	}
	return t.report(), err
}

// measure learns what must be known of the two files, and makes the clone as long as the disk.
func (t *taker) measure() error {
	st, err := sys.Fstat(t.disk.File)
	if err != nil {
		return err
	}
	fs, err := sys.Fstatfs(t.disk.File)
	if err != nil {
		return err
	}
	t.size, t.block, t.btrfs = st.Size, fs.Bsize, sys.KindOfMagic(fs) == "btrfs"
	if t.block < 512 || t.block%512 != 0 {
		return fmt.Errorf("%w: blocks of %d bytes", ErrGaveUp, t.block)
	}
	return t.dst.Truncate(t.size)
}

// clone clones blocks, under the disk's lock.
func (t *taker) clone(from, to int64) error {
	started := time.Now()
	err := reflink.CloneRange(t.dst, t.disk.File, from*t.block, min(t.size, to*t.block))
	t.calls = append(t.calls, time.Since(started))
	return err
}

// writeOut writes to the file what the page cache has of a range, without the file's lock: a clone
// would do that under it.
func (t *taker) writeOut(from, length int64) error {
	if !t.disk.Buffered {
		return nil
	}
	const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := sys.Do(func() error { return unix.SyncFileRange(int(t.disk.File.Fd()), from, length, flags) }); err != nil {
		return &os.PathError{Op: "sync_file_range", Path: t.disk.File.Name(), Err: err}
	}
	return nil
}

// writeOutAll is writeOut of the disk, which may take long: the trace is looked at meanwhile.
func (t *taker) writeOutAll() error {
	if !t.disk.Buffered {
		return nil
	}
	for at, step := int64(0), max(64<<20, t.size/256); at < t.size; at += step {
		if err := t.writeOut(at, min(step, t.size-at)); err != nil {
			return err
		}
		if _, err := t.rounds.follow(); err != nil {
			return err
		}
	}
	return nil
}

// end makes rounds until one is a moment of the disk.
func (t *taker) end() error {
	started := time.Now()
	t.rounds.expire = func() error {
		if time.Since(started) > roundsLimit {
			return fmt.Errorf("%w: it is written to faster than it is cloned (%d rounds in %v, %d blocks cloned again)", ErrGaveUp, t.result.Rounds, roundsLimit, t.rounds.recount)
		}
		return nil
	}
	for {
		if err := t.writeOutAll(); err != nil {
			return err
		}
		t.result.Rounds++
		done, err := t.rounds.round()
		if err != nil || done {
			return err
		}
	}
}

// length is where a range ends that is cloned at once: few blocks, or as few extents, of which a hole or what was
// written in one go may be one.
func (t *taker) length(from, to int64) (int64, error) {
	if to-from <= rangeBlocks {
		return to, nil
	}
	at := from * t.block
	end := at
	cursor := extent.NewCursorAsIs(t.disk.File, at)
	for range rangeBlocks {
		e, ok, err := cursor.Next()
		if err != nil {
			return 0, err
		}
		if !ok {
			end = t.size
			break
		}
		if end = e.Logical + e.Length; end-at >= pieceBytes {
			break
		}
	}
	return min(to, max(from+rangeBlocks, min(end, at+pieceBytes)/t.block)), nil
}

func (t *taker) report() Result {
	t.result.Again = t.rounds.recount
	t.result.Took = time.Since(t.started)
	if n := len(t.calls); n > 0 {
		slices.Sort(t.calls)
		t.result.Longest, t.result.P99 = t.calls[n-1], t.calls[n*99/100]
	}
	return t.result
}
