package cbt

import (
	"errors"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/sr"
	"reflinksr/volume"
)

// trimAll lets a family, in order, lose what nobody shares with it any more. The caller
// holds SR.LockCBT. What it cannot do is done at the next occasion.
//
// What one loses another may be alone with then, so all are looked at until there is no
// more. Only then they are noted as settled: a family that was announced is finished
// wherever this was interrupted.
func trimAll(s *sr.SR, family []sr.Key) error {
	if len(family) == 0 {
		return nil
	}
	unfreed, failed := filesystem.AwaitFreed(s.Root, s.Meta.Filesystem), map[sr.Key]error{}
	again := true
	for range len(family) + 1 { // where nothing can be given back, not for ever
		if !again {
			break
		}
		again = false
		for i, key := range family {
			// Every newer one: after a revert one may share what none in between has.
			others := family[i+1:]
			if len(others) == 0 {
				others = []sr.Key{""}
			}
			for _, newer := range others {
				if failed[key] == nil {
					var more bool
					more, failed[key] = trim(s, key, newer)
					again = again || more && len(family) > 1
				}
			}
		}
	}
	err := unfreed
	for _, key := range family {
		if failed[key] == nil && unfreed == nil {
			failed[key] = noteGivenBack(s, key)
		}
		err = errors.Join(err, failed[key])
	}
	return err
}

// trim lets one volume whose data was destroyed lose what it can, and says whether that
// was something. newer may be "".
func trim(s *sr.SR, key, newer sr.Key) (more bool, err error) {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	d, err := openDisk(s, key)
	if err != nil {
		return false, err
	}
	defer d.close()
	if d.freed == nil {
		return false, nil
	}
	var n *disk
	if newer != "" {
		if n, err = openDisk(s, newer); fault.Unseen(err) {
			return false, err
		} else if err != nil {
			slog.Warn("a destroyed snapshot is trimmed as if there were no newer one", "key", key, "err", err)
		}
		defer n.close()
	}
	p, err := plan(d, n)
	if err != nil || !d.pending && !p.more && p.empty.count == 0 {
		return false, err
	}
	if p.more {
		if err := p.freed.save(s); err != nil {
			return false, err
		}
	}
	return p.runs.count > 0, p.giveBack(s)
}

// giveBack gives back what the plan says is freed, which is noted.
func (p *planned) giveBack(s *sr.SR) error {
	f, err := volume.OpenData(s, p.disk.key, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := range p.runs.all() {
		// Up to the end of the last block of the filesystem, wherever that of the disk is.
		if err := punch(f, r.first*granularity, r.end()*granularity); err != nil {
			return err
		}
	}
	for g := range p.empty.all() {
		if err := punch(f, g.first, g.end()); err != nil {
			return err
		}
	}
	return f.Sync() // or it could be noted as settled, durably, before it is
}

// punch makes a hole (fallocate(2)).
func punch(f *os.File, start, end int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, end-start)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "punch hole", Path: f.Name(), Err: err}
		}
	}
}
