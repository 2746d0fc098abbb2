package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Attach makes the volume a device on this host for a domain, and returns its path. Several
// domains share one device; attaching one again returns it again. Nobody may use it before
// activating it.
func Attach(uri, domain string) (device string, err error) {
	if err := checkDomain(domain); err != nil {
		return "", err
	}
	v, err := begin(uri)
	if err != nil {
		return "", err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return "", err
	}
	var d loop.Device
	err = v.locked(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		if err != nil {
			return err
		}
		f, writable, err := v.file(s, r)
		if err != nil {
			return err
		}
		defer f.Close()
		d, err = v.attach(s, r, f, writable, domain)
		return err
	})
	if err != nil {
		return "", err
	}
	return d.Path(), nil
}

func (v *session) attach(s *sr.SR, r *volume.Record, f *os.File, writable bool, domain string) (_ loop.Device, err error) {
	before := v.state
	if !before.Nonpersistent {
		if err := lease.InPlace(s, v.key, before); err != nil {
			return loop.Device{}, err
		}
	}
	if writable {
		if err := volume.Align(f); err != nil {
			return loop.Device{}, err
		}
	}
	dev, ino, size, err := identify(f)
	if err != nil {
		return loop.Device{}, err
	}
	// The intention first: if we die after binding the device, detach knows of it.
	v.state.Dev, v.state.Ino, v.state.Used = dev, ino, true
	if !slices.Contains(v.state.Domains, domain) {
		v.state.Domains = append(slices.Clone(v.state.Domains), domain)
	}
	defer func() {
		if err != nil {
			v.state = before
			err = errors.Join(err, v.save())
		}
	}()
	if err := v.save(); err != nil {
		return loop.Device{}, err
	}
	existing, err := v.devicesOf(dev, ino)
	if err != nil {
		return loop.Device{}, err
	}
	if len(existing) > 1 {
		return loop.Device{}, fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: it has several devices, %s and %s, not all of our making: detach them (losetup -d)", v.key, existing[0].Path(), existing[1].Path())
	}
	want, err := wanted(s, f, r, size, writable)
	if err != nil {
		return loop.Device{}, err
	}
	if len(existing) == 1 && len(before.Domains) == 0 {
		// A device that is nobody's becomes the volume's: a crashed attach left it, or a program.
		strangers, err := lease.Strangers(s, v.key, v.me)
		if err != nil {
			return loop.Device{}, err
		}
		if len(strangers) > 0 {
			return loop.Device{}, fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: it has the device %s, which this host does not know of, and is active in %s: detach it there; if that is no more: losetup -d %s", v.key, existing[0].Path(), strangers[0], existing[0].Path())
		}
	}
	if len(existing) == 1 {
		d, ok, err := v.reuse(existing[0], want, len(before.Domains) > 0)
		if ok && err == nil && (!v.state.Bound() || d.Number != v.state.Number) {
			v.remember(d)
		}
		if ok || err != nil {
			return d, err
		}
	}
	d, err := v.bind(f, want)
	if err == nil {
		v.remember(d)
	}
	return d, err
}

// remember notes which device it is. That of which file it is is noted already, and is
// enough for as long as that file can be looked at.
func (v *session) remember(d loop.Device) {
	v.state.Number, v.state.Instance = d.Number, d.Instance
	if err := v.save(); err != nil {
		slog.Warn("which device a volume has is not noted", "key", v.key, "device", d.Path(), "err", err)
	}
}

// wanted is what the device of a file must be like.
func wanted(s *sr.SR, f *os.File, r *volume.Record, size int64, writable bool) (loop.Info, error) {
	dio, err := directIO(s, f, r.SectorSize)
	return loop.Info{Size: size, SectorSize: r.SectorSize, DirectIO: dio, ReadOnly: !writable}, err
}

// reuse takes the device that the file already has, if it is as it must be. One
// that is not so, and that no domain has, is replaced: it was not made by us, or
// under other circumstances.
func (v *session) reuse(d loop.Device, want loop.Info, inUse bool) (loop.Device, bool, error) {
	// It may be waiting for its last close. Kept, it cannot become another's while
	// we look at it.
	err := d.Keep()
	if errors.Is(err, loop.ErrGone) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	have, err := d.Info()
	if err != nil {
		return d, false, err
	}
	bound, err := d.Binding()
	if err != nil {
		return d, false, err
	}
	whole := bound.Offset == 0 && bound.SizeLimit == 0
	fits := whole && have.SectorSize == want.SectorSize
	if fits && (inUse || bound.ReadOnly == want.ReadOnly && have.DirectIO == want.DirectIO) {
		if have.Size != want.Size {
			err = d.UpdateSize()
		}
		return d, true, err
	}
	if !inUse {
		gone, err := d.Detach()
		if gone || err != nil {
			return d, false, err
		}
	}
	return d, false, fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: %s is bound to it in another way (offset %d, size limit %d, sectors of %d bytes, direct I/O %v): detach that (losetup -d)",
		v.key, d.Path(), bound.Offset, bound.SizeLimit, have.SectorSize, have.DirectIO)
}

// bind makes a new device and verifies what the kernel made of it.
func (v *session) bind(f *os.File, want loop.Info) (loop.Device, error) {
	d, err := loop.Attach(loop.Config{
		File: f, ReadOnly: want.ReadOnly, SectorSize: want.SectorSize, DirectIO: want.DirectIO, Name: "reflinksr:" + string(v.key), Added: noteNumber,
	})
	if err != nil {
		return d, fmt.Errorf("volume %s: %w", v.key, err)
	}
	have, err := d.Info()
	if err == nil && (have.SectorSize != want.SectorSize || have.Size != want.Size || have.ReadOnly != want.ReadOnly) {
		err = fmt.Errorf("volume %s: the kernel made %s as %+v, needed is %+v", v.key, d.Path(), have, want)
	}
	if err != nil {
		d.Detach()
		return d, err
	}
	if have.DirectIO != want.DirectIO {
		slog.Warn("direct I/O is not as asked for", "device", d.Path(), "asked", want.DirectIO)
	}
	return d, nil
}

// directIO decides whether the device bypasses the page cache of the file. It
// must never change during a volume's life, and so depends on nothing that does:
// not on btrfs with checksums (guests would get false I/O errors when they touch
// a buffer during a read), not on XFS with 512-byte sectors (the kernel refuses
// once the file has been snapshotted). On NFS always: a snapshot that another host
// takes has what the server has, and so must have every write that was acknowledged.
func directIO(s *sr.SR, f *os.File, sectorSize int) (bool, error) {
	switch s.Meta.Filesystem.Type {
	case "btrfs":
		attrs, err := reflink.AttributesOf(f)
		return attrs.NoCOW, err
	case "nfs":
		return true, nil
	default:
		return sectorSize == 4096, nil
	}
}

func identify(f *os.File) (dev, ino uint64, size int64, err error) {
	st, err := sys.Fstat(f)
	if err != nil {
		return 0, 0, 0, err
	}
	return st.Dev, st.Ino, st.Size, nil
}

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
	if _, active := v.state.Holder(domain); active {
		// It could not be deactivated; it does not go on all the same.
		v.state.Active = slices.DeleteFunc(v.state.Active, func(h lease.Holder) bool { return h.Domain == domain })
		err := v.publish()
		if len(v.state.Domains) > 0 { // else the note stands until the device is gone
			err = errors.Join(v.save(), err)
		}
		if err != nil {
			slog.Error("a lease could not be given back; SR.attach will", "key", v.key, "domain", domain, "err", err)
		}
	}
	if len(v.state.Domains) > 0 {
		return v.save()
	}
	gone, err := v.unbind()
	if err != nil {
		slog.Error("a device could not be detached; SR.attach and SR.detach will try again", "key", v.key, "err", err)
	}
	if lost && gone {
		if err := v.publish(); err != nil {
			slog.Error("a lease could not be given back; SR.attach will", "key", v.key, "err", err)
		}
	}
	return v.save()
}

// isStrange says whether the volume has nothing on this host but a device of strangers.
func (v *session) isStrange() (bool, error) {
	if v.unreadable != nil || !v.state.Empty() {
		return false, nil
	}
	s, err := sr.Open(v.handle, dirfs.Unlocked)
	if err != nil {
		return false, err
	}
	defer s.Close()
	strangers, err := v.strangers(s)
	// Of a lease that cannot be read nobody knows whose it is.
	return len(strangers) > 0 || fault.Classify(err) == fault.ErrDamaged || fault.IsIO(err), err
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
