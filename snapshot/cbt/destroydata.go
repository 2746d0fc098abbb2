package cbt

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// EnableCBT lets changed blocks be asked for between the snapshots that will be taken
// of a volume. It costs nothing: what has changed is where two volumes do not share.
func EnableCBT(handle string, key sr.Key) error { return setCBT(handle, key, true) }

// DisableCBT ends that for the snapshots to come. Those there are keep it.
func DisableCBT(handle string, key sr.Key) error { return setCBT(handle, key, false) }

func setCBT(handle string, key sr.Key, on bool) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if on {
		if err := s.MustMapExtents(); err != nil {
			return err
		}
	}
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	switch {
	case err != nil:
		return err
	case r.CBT == on:
		return nil
	case !r.ReadWrite:
		return fault.Errorf(fault.ErrInvalid, "key", "volume %s is a snapshot and keeps the changed block tracking that its disk had when it was taken", key)
	}
	return r.SetCBT(s, key, on)
}

// DestroyData ends a snapshot's data: its space is given back, except for what other
// volumes share. What has changed between it and any other volume can be asked for as
// before.
//
// What its file keeps is what others share: where they do not any more, they have
// changed, and the block is freed at the next occasion (Trim). That a block is freed is
// noted before it is.
//
// Order: what will be freed noted and durable, and that relatives may lose more; the
// record says that there is no data (the commit); blocks given back; that noted.
func DestroyData(handle string, key sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.MustMapExtents(); err != nil {
		return err
	}
	cbt, err := s.LockCBT(dirfs.Exclusive, false)
	if err != nil {
		return err
	}
	defer cbt.Unlock()
	if err := destroyData(s, key); err != nil {
		return err
	}
	family, err := destroyedKin(s, key)
	if err = errors.Join(err, trimAll(s, family)); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "key", key, "err", err)
	}
	return nil
}

// destroyData is all but giving the blocks back.
func destroyData(s *sr.SR, key sr.Key) error {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	r, err := volume.LoadForChange(s, key)
	switch {
	case err != nil:
		return err
	case r.DataDestroyed:
		return nil // the second attempt: what the first could not give back remains to be done
	case r.ReadWrite:
		return fault.Errorf(fault.ErrInvalid, "key", "volume %s is no snapshot: only a snapshot's data can be destroyed alone", key)
	case !r.CBT:
		return fault.Errorf(fault.ErrNoCBT, string(key), "volume %s was taken without changed block tracking, so there is nothing to keep: destroy the volume itself", key)
	}
	if err := lease.CheckIdle(s, key); err != nil {
		return err
	}
	if err := volume.Mutable(s, key); err != nil {
		return err
	}
	if err := s.CBT.Remove(string(key) + sr.PendingCBT); err != nil { // of an attempt that ended before its commit
		return err
	}
	there, err := s.CBT.Exists(string(key))
	if err == nil && there {
		err = fault.Errorf(fault.ErrDamaged, string(key), "volume %s: its record says that it has its data, %s/.reflinksr/cbt/%s that this was destroyed: restore the newer record, or destroy the volume", key, s.Path, key)
	}
	if err != nil {
		return err
	}
	relatives, err := destroyedKin(s, key)
	if err != nil {
		return err
	}
	d, err := OpenDisk(s, key)
	if err != nil {
		return err
	}
	defer d.Close()
	d.freed = newFreed(key)
	p, err := plan(d, nil)
	if err != nil {
		return err
	}
	withdraw, err := announce(s, relatives)
	if err == nil {
		err = p.freed.save(s)
	}
	if err == nil {
		err = r.DestroyData(s, key)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("volume %s: destroying its data: %w", key, err)
	// Where a record cannot be put back, the new one may stand all the same. Then so does
	// what was noted, and recovery gives the blocks back.
	if r, e := volume.LoadForChange(s, key); e != nil || r.DataDestroyed {
		return errors.Join(err, e)
	}
	withdraw()
	return errors.Join(err, s.RemoveCBT(key))
}

// announce notes that volumes whose data was destroyed are to be trimmed, durably: if
// whoever is about to let them lose blocks does not come to that, recovery does it.
// withdraw is for when nothing comes of it. The caller holds SR.LockCBT.
func announce(s *sr.SR, family []sr.Key) (withdraw func(), err error) {
	var noted []sr.Key
	withdraw = func() {
		for _, k := range noted {
			noteGivenBack(s, k) // else recovery finds nothing to do
		}
	}
	for _, k := range family {
		there, err := s.CBT.Exists(string(k) + sr.PendingCBT)
		if err == nil && !there {
			err = s.CBT.Rename(string(k), s.CBT, string(k)+sr.PendingCBT)
			if errors.Is(err, os.ErrNotExist) { // it is damaged
				continue
			}
			noted = append(noted, k)
		}
		if err != nil {
			withdraw()
			return func() {}, err
		}
	}
	if len(noted) > 0 {
		err = s.CBT.Sync()
	}
	return withdraw, err
}

// planned is what a volume whose data was destroyed need not keep any more.
type planned struct {
	disk  *disk
	freed *freedBlocks
	more  bool    // freed is more than what is noted
	runs  runList // of freed: those that may still take space
	empty runList // bytes that are allocated, and nothing is in them
}

// plan finds the blocks that no other volume shares, and those that the next volume
// whose data was destroyed has as well: two that share a block only with each other
// would keep it for ever. A block in which a disk ends is kept only by one of the same
// size: a longer one has more in it, and loses it with that. newer may be nil.
func plan(d, newer *disk) (*planned, error) {
	p := &planned{disk: d}
	freed := d.freed.with(runList{})
	var other cursor = newFileCursor(d.file, 0, 0) // nothing
	if newer != nil {
		other = newer.from(0)
	}
	t := tally{tell: func(b block) {
		switch {
		case b.alone:
			p.runs.add(run{b.first, b.count, 0})
		case newer != nil && !b.differs && (b.first+b.count <= d.size/granularity || newer.size == d.size):
			p.runs.add(run{b.first, b.count, freed.owner(newer.key)})
		}
	}}
	err := together(d.rest(), other, 0, d.size, func(start, end int64, own, its segment) bool {
		if own.what == hole && own.allocated && !own.shared {
			p.empty.add(run{first: start, count: end - start})
		}
		if own.what != hole {
			t.add(start, end, block{stored: true, alone: own.allocated && !own.shared, differs: !same(own, its)})
		} else {
			t.add(start, end, block{differs: !same(own, its)})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	t.flush()
	p.freed, p.more = freed.with(p.runs), p.runs.count > 0
	if d.Pending {
		p.runs, err = p.freed.unpunched(d)
	}
	return p, err
}

// unpunched answers the runs that still take space.
func (l *freedBlocks) unpunched(d *disk) (runList, error) {
	var allocated runList
	end := int64(0)
	err := extent.Each(d.file, func(e extent.Extent) bool {
		first := max(e.Logical/granularity, end)
		end = (e.Logical+e.Length-1)/granularity + 1
		if end > first {
			allocated.add(run{first, end - first, 0})
		}
		return true
	})
	runs, _ := l.runs.cut(allocated)
	return runs, err
}

// block is what is known of a number of blocks.
type block struct {
	first, count int64
	stored       bool // something is in them
	alone        bool // that no other file has
	differs      bool // from the other disk
}

// tally gathers pieces of disk to blocks. Of blocks without anything in them nobody is
// told.
type tally struct {
	now  block
	tell func(block)
}

func (t *tally) add(start, end int64, b block) {
	for start < end {
		b.first, b.count = start/granularity, 1
		stop := min(end, (b.first+1)*granularity)
		if start%granularity == 0 && end-start >= granularity {
			b.count = (end - start) / granularity
			stop = start + b.count*granularity
		}
		if t.now.count == 0 || t.now.first != b.first {
			t.flush()
			t.now = b
		} else {
			t.now.stored, t.now.alone, t.now.differs = t.now.stored || b.stored, t.now.alone || b.alone, t.now.differs || b.differs
		}
		start = stop
	}
}

func (t *tally) flush() {
	if t.now.stored {
		t.tell(t.now)
	}
	t.now = block{}
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
	unfreed, failed := s.AwaitFreed(), map[sr.Key]error{}
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

// Recover finishes or takes back what interrupted calls left of destroyed data. What
// others are at it leaves to them.
func Recover(handle string) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	return RecoverAll(s)
}

// RecoverAll finishes what interrupted calls left undone in what is kept of destroyed volumes.
func RecoverAll(s *sr.SR) error {
	keys, err := DestroyedVolumes(s)
	if err != nil || len(keys) == 0 {
		return err
	}
	lock, err := s.LockCBT(dirfs.Exclusive, true)
	if errors.Is(err, fault.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	var pending []sr.Key
	for _, key := range keys {
		todo, e := recoverFreed(s, key)
		if todo {
			pending = append(pending, key)
		}
		if !errors.Is(e, fault.ErrVolumeNotFound) {
			err = errors.Join(err, e)
		}
	}
	for len(pending) > 0 {
		family, e := destroyedKin(s, pending[0])
		err = errors.Join(err, e, trimAll(s, family))
		pending = slices.DeleteFunc(pending[1:], func(k sr.Key) bool { return slices.Contains(family, k) })
	}
	return err
}

// recoverFreed removes what is kept of a volume that has its data, or is no more. todo
// says that the volume is to be trimmed.
func recoverFreed(s *sr.SR, key sr.Key) (todo bool, err error) {
	r, err := volume.LoadForChange(s, key)
	switch {
	case errors.Is(err, fault.ErrVolumeNotFound):
		return false, s.RemoveCBT(key)
	case err != nil:
		return false, err
	case r.DataDestroyed:
		return s.CBT.Exists(string(key) + sr.PendingCBT)
	}
	// It ended before its commit.
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	if r, err = volume.LoadForChange(s, key); err != nil || r.DataDestroyed {
		return false, err
	}
	return false, s.CBT.Remove(string(key) + sr.PendingCBT)
}

// destroyedKin lists the relatives of a volume whose data was destroyed, oldest first,
// the volume itself included.
func destroyedKin(s *sr.SR, key sr.Key) ([]sr.Key, error) {
	all, err := DestroyedVolumes(s)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	line, err := ancestry(s, key)
	if err != nil {
		return nil, err
	}
	var family []sr.Key
	for _, k := range all {
		its, err := ancestry(s, k)
		if err != nil {
			return nil, err
		}
		if kin(line, its) {
			family = append(family, k)
		}
	}
	return inOrder(s, family)
}

// inOrder sorts those of the volumes whose data was destroyed by age, oldest first.
func inOrder(s *sr.SR, keys []sr.Key) ([]sr.Key, error) {
	records := map[sr.Key]*volume.Record{}
	var failed error
	keys = slices.DeleteFunc(slices.Clone(keys), func(k sr.Key) bool {
		r, err := volume.LoadForChange(s, k)
		records[k] = r
		if fault.Classify(err) == nil {
			failed = errors.Join(failed, err)
		}
		return err != nil || !r.DataDestroyed
	})
	slices.SortFunc(keys, func(a, b sr.Key) int {
		return cmp.Or(records[a].Older(records[b]), cmp.Compare(a, b))
	})
	return keys, failed
}

// DestroyedVolumes lists the volumes of which something is kept in SR.CBT.
func DestroyedVolumes(s *sr.SR) ([]sr.Key, error) {
	names, err := s.CBT.Names()
	var keys []sr.Key
	for _, name := range names {
		if k, err := sr.ParseKey(strings.TrimSuffix(name, sr.PendingCBT)); err == nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), err
}

// trim lets one volume whose data was destroyed lose what it can, and says whether that
// was something. newer may be "".
func trim(s *sr.SR, key, newer sr.Key) (more bool, err error) {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	d, err := OpenDisk(s, key)
	if err != nil {
		return false, err
	}
	defer d.Close()
	if d.freed == nil {
		return false, nil
	}
	var n *disk
	if newer != "" {
		if n, err = OpenDisk(s, newer); fault.Unseen(err) {
			return false, err
		} else if err != nil {
			slog.Warn("a destroyed snapshot is trimmed as if there were no newer one", "key", key, "err", err)
		}
		defer n.Close()
	}
	p, err := plan(d, n)
	if err != nil || !d.Pending && !p.more && p.empty.count == 0 {
		return false, err
	}
	if p.more {
		if err := p.freed.save(s); err != nil {
			return false, err
		}
	}
	return p.runs.count > 0, p.giveBack(s)
}
