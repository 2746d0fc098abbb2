package cbt

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/reflink"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Destroy removes a volume that is not in use (volume.DestroyIn). What it keeps for
// volumes whose data was destroyed they get first, and what only those still have goes
// with it.
func Destroy(handle string, key sr.Key) error {
	s, err := sr.Open(handle, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	cbt, some, err := lockDestroyed(s)
	if err != nil {
		return err
	}
	defer cbt.Unlock()
	if !some {
		return volume.DestroyIn(s, key)
	}
	family, err := destroyedKin(s, key)
	if err != nil {
		return err
	}
	keeps := slices.Contains(family, key)
	family = slices.DeleteFunc(family, func(f sr.Key) bool { return f == key })
	withdraw, err := announce(s, family)
	if err != nil { // a full SR must be able to destroy
		slog.Warn("if the call is interrupted now, space of destroyed snapshots is given back later", "key", key, "err", err)
	}
	if keeps {
		err := transferBlocks(s, key)
		switch {
		case errors.Is(err, errInVain):
			return err // and what was announced stays
		case errors.Is(err, fault.ErrDamaged): // what cannot be read is freed with it
			slog.Warn("blocks that others left to a volume are freed with it: they count as changed", "key", key, "err", err)
		case err != nil:
			withdraw()
			return err
		}
	}
	if err := volume.DestroyIn(s, key); err != nil {
		withdraw()
		return err
	}
	if err := trimAll(s, family); err != nil {
		slog.Error("space of destroyed snapshots could not all be given back", "key", key, "err", err)
	}
	return nil
}

// lockDestroyed takes SR.LockCBT, and says whether there are volumes whose data was
// destroyed. Where there are none, none can come to be before that is unlocked, which
// would take what is about to go for shared; that all may know at once.
func lockDestroyed(s *sr.SR) (lock *dirfs.Lock, some bool, err error) {
	for _, mode := range []dirfs.LockMode{dirfs.Shared, dirfs.Exclusive} {
		if lock, err = s.LockCBT(mode, false); err != nil {
			return nil, false, err
		}
		kept, err := DestroyedVolumes(s)
		if some = len(kept) > 0; err == nil && (!some || mode == dirfs.Exclusive) {
			break
		}
		lock.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
	return lock, some, nil
}

// transferBlocks gives what a volume keeps for others to the newest of those, which then
// keeps it for the rest. What it has freed is freed with it, and needs no other owner. The caller
// holds SR.LockCBT. Doing it twice does no harm, and neither does stopping anywhere: no
// comparison comes out otherwise, also with the volume itself.
func transferBlocks(s *sr.SR, key sr.Key) error {
	all, err := DestroyedVolumes(s)
	if err != nil {
		return err
	}
	left := map[sr.Key]runList{}
	for _, k := range all {
		if k == key {
			continue
		}
		l, _, err := loadFreed(s, k)
		if fault.Classify(err) == nil && err != nil {
			return err // it can be read again in a moment
		}
		if err == nil {
			left[k] = l.of(key)
		}
	}
	all = slices.DeleteFunc(all, func(k sr.Key) bool { return left[k].count == 0 })
	if len(all) == 0 {
		return nil
	}
	if all, err = inOrder(s, all); err != nil {
		return err
	}
	slices.Reverse(all)
	old, err := openDisk(s, key)
	if errors.Is(err, fault.ErrDamaged) {
		// There is nothing to transfer; those who need it say so from now on.
		slog.Error("what a damaged volume kept for others goes with it", "key", key, "for", all, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer old.close()
	var done []sr.Key
	for _, k := range all {
		owned := newFreed(k)
		take := left[k] // that no owner before has
		for _, h := range done {
			var had runList
			had, take = take.cut(left[h])
			owned = owned.with(had.ownedBy(owned.owner(h)))
		}
		err := receiveBlocks(s, k, old, take, owned)
		switch {
		case err == nil:
			done = append(done, k)
		case errors.Is(err, fault.ErrDamaged) && !errors.Is(err, errInVain):
			slog.Error("blocks that a volume kept for a damaged one go with it", "key", key, "for", k, "err", err)
		default:
			return fmt.Errorf("volume %s: transferring to %s what it keeps for it: %w", key, k, err)
		}
	}
	return nil
}

// receiveBlocks makes a volume independent of old. The blocks take it gets from there; the
// others that it left to old have other owners now.
func receiveBlocks(s *sr.SR, key sr.Key, old *disk, take runList, others *freedBlocks) error {
	lock, err := s.LockVolume(key, dirfs.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	d, err := openDisk(s, key)
	if err != nil {
		return err
	}
	defer d.close()
	f, err := volume.OpenData(s, key, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	freed := d.freed.without(old.key)
	add := func(runs runList, owner sr.Key) {
		if runs.count > 0 {
			freed = freed.with(runs.ownedBy(freed.owner(owner)))
		}
	}
	for _, h := range others.owners[1:] {
		add(others.of(h), h)
	}
	for _, k := range old.freed.owners {
		var gone runList
		gone, take = take.cut(old.freed.of(k))
		add(gone, k)
	}
	if take.count == 0 && freed.equal(d.freed) {
		return nil // and nothing to write, for which there may be no space
	}
	for r := range take.all() {
		start := r.first * granularity
		if err == nil {
			err = share(f, old.file, start, min(r.end()*granularity, d.size)-start)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = freed.save(s)
	}
	if err != nil {
		return errors.Join(err, giveUp(s, d, f, take))
	}
	if d.pending {
		return nil
	}
	if err := noteGivenBack(s, key); err != nil { // the trim to come does it again, or recovery
		slog.Warn("a note of freed blocks could not be put in its place", "key", key, "err", err)
	}
	return nil
}

// errInVain says that a volume may have blocks of another that nothing tells of.
var errInVain = errors.New("it has taken over blocks in vain; attaching the SR gives them back")

// giveUp gives back the blocks that a transfer took, unless it was noted after all.
func giveUp(s *sr.SR, d *disk, f *os.File, take runList) error {
	noted, _, err := loadFreed(s, d.key)
	if err != nil || !noted.equal(d.freed) {
		return errors.Join(err, errInVain)
	}
	for r := range take.all() {
		if err := punch(f, r.first*granularity, r.end()*granularity); err != nil {
			return errors.Join(err, errInVain)
		}
	}
	return nil
}

// share makes a range of dst share the blocks of the same range of src
// (ioctl_ficlonerange(2)). Both are whole blocks of the filesystem long.
func share(dst, src *os.File, start, length int64) error {
	request := unix.FileCloneRange{Src_fd: int64(src.Fd()), Src_offset: uint64(start), Src_length: uint64(length), Dest_offset: uint64(start)} // #nosec G115 -- offsets in a file
	for {
		err := unix.IoctlFileCloneRange(int(dst.Fd()), &request)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.LinkError{Op: "FICLONERANGE", Old: src.Name(), New: dst.Name(), Err: reflink.Unshared(dst, err)}
		}
	}
}
