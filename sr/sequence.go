package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/rundir"
)

// MaxSequence is the largest number that Sequence gives; every reader of JSON has it.
const MaxSequence = 1 << 53

// Sequence gives a number that is greater than every one that it gave before and that
// is still there, so that what comes first and what later does not depend on a clock.
// highest finds the largest of those.
//
// The last one is noted where it costs no fsync: on this host, for as long as it is up and
// the SR is attached. After that, whatever a crash has left, it is looked for again. Where
// other hosts make volumes as well, it is noted on the SR, and there it must be durable:
// what this host had in memory another would not see after a crash.
func (s *SR) Sequence(highest func() (int64, error)) (int64, error) {
	lock, err := s.lockSequence()
	switch fault.Classify(err) {
	case fault.ErrNoSpace, fault.ErrReadOnly:
		// There is no room for the note. Two at a time may get the same number, which
		// is no worse than none.
		n, err := highest()
		return n + 1, err
	}
	if err != nil {
		return 0, err
	}
	defer lock.Unlock()
	last, known := readSequence(lock.File())
	if !known {
		if last, err = highest(); err != nil {
			return 0, err
		}
	}
	last = min(last+1, MaxSequence)
	err = writeSequence(lock.File(), last)
	if err == nil && s.Meta.Filesystem.Clustered() {
		err = lock.File().Sync()
	}
	if err != nil {
		slog.Warn("the last number could not be noted, and is looked for at the next occasion", "file", lock.File().Name(), "err", err)
		return last, lock.File().Truncate(0) // a stale one would be given twice
	}
	return last, nil
}

func (s *SR) lockSequence() (*dirfs.Lock, error) {
	what := "the sequence of SR " + s.Path
	if s.Meta.Filesystem.Clustered() {
		return s.fresh(s.Control.LockFile(layout.SequenceFile, what, dirfs.Exclusive, false))
	}
	dir, err := rundir.Open(layout.SequenceDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.LockFile(s.Meta.UUID, what, dirfs.Exclusive, false)
}

// The note is a line of always the same length: replacing it needs no room.
const sequenceFormat = "%019d\n"

func readSequence(f *os.File) (last int64, known bool) {
	var line [21]byte
	n, _ := f.ReadAt(line[:], 0)
	if n != 20 || line[19] != '\n' {
		return 0, false
	}
	last, err := strconv.ParseInt(string(line[:19]), 10, 64)
	return last, err == nil && last >= 0 && last <= MaxSequence
}

func writeSequence(f *os.File, last int64) error {
	_, err := f.WriteAt([]byte(fmt.Sprintf(sequenceFormat, last)), 0)
	return err
}

// removeSequenceNote removes what this host has noted of an SR that it does not use any more.
func removeSequenceNote(uuid string) {
	dir, err := rundir.Look(layout.SequenceDir)
	if err != nil {
		return
	}
	defer dir.Close()
	if err := dir.Remove(uuid); err != nil && !errors.Is(err, unix.EROFS) {
		slog.Warn("a note of an SR that is not attached stays until the host is started again", "sr", uuid, "err", err)
	}
}
