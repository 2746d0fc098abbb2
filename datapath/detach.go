package datapath

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/sr"
)

// Detach takes the device from a domain; with the last domain the device goes.
// It succeeds whatever the state of things: what cannot be undone now is logged,
// and the kernel unbinds a device that is still open at its last close.
func Detach(uri, domain string) error {
	v, err := beginToGiveBack(uri)
	if v == nil {
		return err
	}
	defer v.end()
	if errors.As(v.unreadable, new(*os.PathError)) {
		return v.unreadable // too many open files, say: it can be read again in a moment
	}
	if strange, err := v.isStrange(); strange {
		slog.Error("the volume's device is not this host's, and stays", "key", v.key, "err", err)
		return nil
	}
	if err := v.deactivate(domain); err != nil {
		slog.Error("detaching a volume that could not be deactivated", "key", v.key, "domain", domain, "err", err)
	}
	lost := v.unreadable != nil
	if lost {
		// Nobody knows which domains had it. A device that is open stays until its last close.
		slog.Error("detaching from every domain", "err", v.unreadable)
		v.unreadable = nil
	}
	v.state.Domains = slices.DeleteFunc(v.state.Domains, func(d string) bool { return d == domain })
	if !v.state.InDom0() {
		v.tellOfReaders()
		v.unlink()
	}
	if _, active := v.state.Holder(domain); active {
		// It could not be deactivated; it does not go on all the same.
		v.state.Active = slices.DeleteFunc(v.state.Active, func(h lease.Holder) bool { return h.Domain == domain })
		err := v.publish()
		if len(v.state.Domains) > 0 { // else the note stands until the device is gone
			err = errors.Join(v.save(), err)
		}
		if err != nil {
			slog.Error("a lease could not be given back; attaching the SR will", "key", v.key, "domain", domain, "err", err)
		}
	}
	if v.state.Ino != 0 && !v.state.Bound() { // an attach did not come to its end
		if err := v.locked(v.undoRenewal); err != nil {
			slog.Warn("what an interrupted attach left in staging goes when the volume or the SR is attached", "key", v.key, "err", err)
		}
	}
	v.endMirror()
	if len(v.state.Domains) > 0 {
		return v.save()
	}
	gone, err := v.unbind()
	if err != nil {
		slog.Error("a device could not be detached; attaching and detaching the SR try again", "key", v.key, "err", err)
	}
	if v.state.Nonpersistent && v.state.For == domain {
		return v.discard()
	}
	if lost && gone {
		if err := v.publish(); err != nil {
			slog.Error("a lease could not be given back; attaching the SR will", "key", v.key, "err", err)
		}
	}
	return v.save()
}

// unbind lets go of the volume's devices, and says whether they are gone: one that
// is still open is not. What it cannot do is noted.
func (v *session) unbind() (all bool, err error) {
	all = true
	devices, err := v.bound()
	for _, d := range devices {
		gone, e := d.Detach()
		if e == nil && !gone {
			slog.Warn("the device is still open and goes at its last close", "device", d.Path(), "key", v.key)
		}
		all = all && gone
		err = errors.Join(err, e)
	}
	if len(devices) > 0 {
		sweepNumbers()
	}
	v.state.Stuck = err != nil
	if all && err == nil {
		v.state.Number, v.state.Instance = 0, loop.Instance{}
	}
	return all && err == nil, err
}

// bound lists the volume's devices, also where its files cannot be looked at any more: a
// filesystem that has died must let go of them, too.
func (v *session) bound() (devices []loop.Device, err error) {
	if d, there := v.state.DeviceOf(v.state.Dev, v.state.Ino); there {
		return []loop.Device{d}, nil
	}
	if v.state.Bound() {
		devices = append(devices, v.state.Device())
	}
	all, err := v.loops()
	var unseen error
	for _, file := range v.files() {
		found, e := all.Of(file[0], file[1], string(v.key))
		unseen = errors.Join(unseen, e)
		for _, d := range found {
			if !slices.ContainsFunc(devices, d.Same) {
				devices = append(devices, d)
			}
		}
	}
	path, _, e := layout.ParseHandle(v.handle)
	if unseen == nil || e != nil {
		return devices, errors.Join(err, e)
	}
	if real, e := filepath.EvalSymlinks(path); e == nil {
		path = real // as the kernel calls it
	}
	slog.Warn("devices are looked for by name, for their files cannot be looked at", "key", v.key, "err", unseen)
	for _, name := range []string{sr.Data(v.key), sr.StagedPath(v.nonpersistentName())} {
		devices = append(devices, all.At(filepath.Join(path, name))...)
	}
	return devices, err
}

// files lists what may have a device: the file that was attached, and, for a
// device that a crashed attach left without a note, the volume's files of now.
func (v *session) files() [][2]uint64 {
	var files [][2]uint64
	if v.state.Ino != 0 {
		files = append(files, [2]uint64{v.state.Dev, v.state.Ino})
	}
	s, err := sr.Open(v.handle, dirfs.Unlocked)
	if err != nil {
		return files
	}
	defer s.Close()
	files = append(files, v.filesIn(s)...)
	slices.SortFunc(files, func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(files)
}

// filesIn lists the volume's files that are in place.
func (v *session) filesIn(s *sr.SR) (files [][2]uint64) {
	if st, err := s.Root.Stat(sr.Data(v.key)); err == nil {
		files = append(files, [2]uint64{st.Dev, st.Ino})
	}
	if st, err := s.Staging.Stat(v.nonpersistentName()); err == nil {
		files = append(files, [2]uint64{st.Dev, st.Ino})
	}
	return files
}
