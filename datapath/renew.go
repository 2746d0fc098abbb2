package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// renewLimit is how many extents a disk may have at most to be renewed: each costs 20 to 40 µs, and the guest waits to start.
const renewLimit = 50_000

// renewal is whether the volume may be given a new file now: that needs it alone.
type renewal int

const (
	renewalUnasked renewal = iota
	renewalMay
	renewalMustNot
)

// errRenewal says that the volume should be locked alone, and all begun again.
var errRenewal = errors.New("the volume has to be given a new file")

// lockedToRenew is locked, and alone if it turns out that the volume needs a new file: who has opened the old one, as a
// snapshot does, must not find that it is the volume's no more. A guest does not wait for that: it gets the old file then.
func (v *session) lockedToRenew(do func(*sr.SR) error) error {
	if err := v.locked(do); !errors.Is(err, errRenewal) {
		return err
	}
	v.renewal = renewalMay
	err := v.alone(do)
	if fault.Classify(err) != fault.ErrBusy {
		return err
	}
	slog.Warn("the disk is given no direct I/O, for a call about it goes on", "key", v.key, "err", err)
	v.renewal = renewalMustNot
	return v.locked(do)
}

// renew makes a device with direct I/O where the kernel would grant none any more, since the disk has had a snapshot.
//
// The loop driver asks, when it binds a file, for the least that direct I/O can write to it (since Linux 6.15), and XFS
// answers with a block, 4096 bytes, as soon as the file has shared one. Less can be written all the same; XFS then goes
// through the page cache for that block alone. So a new file is bound while it has no blocks, gets all of the disk's by
// FICLONE, and takes its place: the contents are the same at any moment. renewed is false if there is nothing to gain, or if
// it did not work: the disk is as it was then, and can be bound without direct I/O.
func (v *session) renew(s *sr.SR, f *os.File, want loop.Info) (d loop.Device, renewed bool, err error) {
	if !renews(s) || !want.DirectIO || want.ReadOnly || v.state.Nonpersistent {
		return d, false, nil
	}
	if least, err := sys.LeastDirect(f); err != nil || least <= want.SectorSize {
		return d, false, nil
	}
	if received, err := s.IsReceived(v.key); err != nil || received {
		return d, false, err // its other file is of this one
	}
	n, err := reflink.Extents(f)
	if err != nil {
		return d, false, err
	}
	if n > renewLimit {
		slog.Warn("the disk has too many extents to be given direct I/O", "key", v.key, "extents", n, "most", renewLimit)
		return d, false, nil
	}
	switch v.renewal {
	case renewalUnasked:
		return d, false, errRenewal
	case renewalMustNot:
		return d, false, nil
	}
	start, before := time.Now(), v.state
	d, err = v.bindRenewed(s, f, want)
	if err == nil {
		if err = s.Commit(sr.Renewed(v.key), s.Root, sr.Data(v.key)); err != nil {
			_, e := d.Detach() // the file goes with the error, and nobody would find it by that
			if e = errors.Join(e, v.mustBeInPlace(s, f)); e != nil {
				return d, false, errors.Join(err, e)
			}
		}
	}
	if err != nil {
		slog.Warn("the disk could not be given direct I/O", "key", v.key, "err", err)
		err = v.undoRenewal(s)
		v.state = before
		return d, false, errors.Join(err, v.save())
	}
	slog.Info("the disk has a new file, so that it has direct I/O", "key", v.key, "device", d.Path(), "extents", n, "took", time.Since(start))
	return d, true, nil
}

// renews says whether disks of an SR are ever renewed.
func renews(s *sr.SR) bool { return s.Meta.Filesystem.Type == "xfs" }

// bindRenewed stages a file with the contents of f, and a device with direct I/O. Both are found by the name of the one.
func (v *session) bindRenewed(s *sr.SR, f *os.File, want loop.Info) (d loop.Device, err error) {
	fresh, err := s.Staging.Create(sr.Renewed(v.key))
	if err != nil {
		return d, err
	}
	defer fresh.Close()
	if least, err := sys.LeastDirect(fresh); err != nil || least > want.SectorSize {
		return d, errors.Join(err, fmt.Errorf("direct I/O needs %d bytes at least of any file here", least))
	}
	if err := (reflink.Attributes{}).Apply(fresh); err != nil {
		return d, err
	}
	if err := alike(fresh, f); err != nil {
		return d, err
	}
	// As for any device: who takes it back must know of it before it is there.
	if v.state.Dev, v.state.Ino, _, err = identify(fresh); err != nil {
		return d, err
	}
	if err := v.save(); err != nil {
		return d, err
	}
	empty := want
	empty.Size = 0 // nobody can read from it what is not there yet
	if d, err = v.bind(fresh, empty); err != nil {
		return d, err
	}
	defer func() {
		if err != nil { // the devices of this host were listed before it was there
			_, e := d.Detach()
			err = errors.Join(err, e)
		}
	}()
	if err := reflink.CloneFile(fresh, f); err != nil {
		return d, err
	}
	if err := fresh.Sync(); err != nil {
		return d, err
	}
	if err := d.UpdateSize(); err != nil {
		return d, err
	}
	have, err := d.Info()
	if err == nil && have != want {
		err = fmt.Errorf("the kernel made %s as %+v, needed is %+v", d.Path(), have, want)
	}
	return d, err
}

// mustBeInPlace refuses to go on with a file that is not the volume's.
func (v *session) mustBeInPlace(s *sr.SR, f *os.File) error {
	dev, ino, _, err := identify(f)
	if err != nil {
		return err
	}
	st, err := s.Root.Stat(sr.Data(v.key))
	if err == nil && (st.Dev != dev || st.Ino != ino) {
		err = fmt.Errorf("volume %s: its file was replaced by one with the same contents, and that may not be durable: attach it again", v.key)
	}
	return err
}

// alike gives a file the owner and the mode of another: it may be an adopted one.
func alike(fresh, old *os.File) error {
	st, err := sys.Fstat(old)
	if err != nil {
		return err
	}
	return errors.Join(fresh.Chown(int(st.Uid), int(st.Gid)), fresh.Chmod(os.FileMode(st.Mode&0o777)))
}

// undoRenewal removes what renew has left: the new file, with its device, which nobody has used, or the old one.
func (v *session) undoRenewal(s *sr.SR) error {
	st, err := s.Staging.Stat(sr.Renewed(v.key))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	devices, err := v.devicesOf(st.Dev, st.Ino)
	for _, d := range devices {
		if _, e := d.Detach(); !errors.Is(e, loop.ErrGone) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return err
	}
	if v.state.Dev == st.Dev && v.state.Ino == st.Ino {
		v.state.Dev, v.state.Ino, v.state.Number, v.state.Instance = 0, 0, 0, loop.Instance{}
		if err := v.save(); err != nil {
			return err
		}
	}
	return s.Staging.Remove(sr.Renewed(v.key))
}
