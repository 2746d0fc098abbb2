package datapath

import (
	"errors"
	"fmt"
	"log/slog"

	"reflinksr/datapath/lease"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Replacing runs do, which may give the volume another file, while no datapath call of this host can come between. The toolstack composes
// a disk that was mirrored here when the guest that gets it has it attached already, and nobody uses it: it keeps the device's
// number, which is bound to the new file.
//
// That is noted before, so that a call that is killed has left a note of what the next one is to do: see rebind.
func Replacing(handle string, key sr.Key, do func() error) error {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return do() // which says so
	}
	uri := volume.URIAt(path, uuid, key)
	if noted, err := isNoted(uri); err == nil && !noted {
		return do()
	}
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	if v.unreadable != nil || len(v.state.Domains) == 0 || len(v.state.Active) > 0 || v.state.Nonpersistent {
		return do() // which refuses what is in use
	}
	// With the note that comes next nobody could tell that the guest has another file already.
	err = v.locked(func(s *sr.SR) error { return lease.InPlaceAmong(s, key, v.state, v.loops) })
	if err != nil {
		return err
	}
	devices, err := v.devices()
	if err == nil {
		err = v.flush(devices)
	}
	if err != nil {
		return err
	}
	v.state.Replacing = true
	if err := v.save(); err != nil {
		return err
	}
	err = do()
	if e := v.locked(v.rebind); e != nil {
		slog.Error("a device is to be bound to its volume's new file: activating it tries again", "key", key, "err", e)
	}
	return err
}

// rebind binds the volume's device to the file that the volume has by now, if it was noted that this may be another. Nobody uses the device.
func (v *session) rebind(s *sr.SR) error {
	if !v.state.Replacing {
		return nil
	}
	r, err := volume.LoadForChange(s, v.key)
	if err != nil {
		return err
	}
	f, writable, err := v.file(s, r)
	if err != nil {
		return err
	}
	defer f.Close()
	dev, ino, size, err := identify(f)
	if err != nil {
		return err
	}
	if dev == v.state.Dev && ino == v.state.Ino {
		v.state.Replacing = false
		return v.save()
	}
	want, err := wanted(s, f, r, size, writable)
	if err != nil {
		return err
	}
	if !v.state.Bound() {
		return fmt.Errorf("volume %s: which device it has is not noted: detach it and attach it again", v.key)
	}
	if old, there := v.state.DeviceOf(v.state.Dev, v.state.Ino); there {
		gone, err := old.Detach()
		if err == nil && !gone {
			err = errors.New("a program has it open")
		}
		if err != nil {
			return fmt.Errorf("volume %s: its device %s cannot be bound to its new file: %w", v.key, old.Path(), err)
		}
	}
	d, err := loop.AttachAs(v.state.Number, v.config(f, want))
	if err == nil {
		err = v.verify(d, want)
	}
	if err != nil {
		return fmt.Errorf("volume %s: its device is not there any more: detach it and attach it again: %w", v.key, err)
	}
	v.state.Dev, v.state.Ino, v.state.Replacing = dev, ino, false
	v.remember(d)
	return nil
}
