package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/loop"
)

// Deactivate takes the right back. What was written is durable when it returns.
// A domain that has no such right is no error.
func Deactivate(uri, domain string) error {
	v, err := beginToGiveBack(uri)
	if v == nil {
		return err
	}
	defer v.end()
	return v.deactivate(domain)
}

func (v *session) deactivate(domain string) error {
	if others := slices.ContainsFunc(v.state.Active, func(h lease.Holder) bool { return h.Domain != domain && IsMigration(h.Domain) }); IsMigration(domain) && !others {
		if err := v.endServer(atOnce); err != nil {
			return err
		}
	}
	if v.unreadable != nil {
		if errors.As(v.unreadable, new(*os.PathError)) {
			return v.unreadable // too many open files, say: it can be read again in a moment
		}
		// Nobody knows who is active: nothing is lost, and nothing is taken from others.
		var devices []loop.Device
		var err error
		for _, file := range v.files() {
			found, e := v.devicesOf(file[0], file[1])
			devices, err = append(devices, found...), errors.Join(err, e)
		}
		return errors.Join(err, v.flush(devices))
	}
	h, active := v.state.Holder(domain)
	if !active {
		err := v.publish() // an earlier attempt may have failed to
		if err != nil && !v.state.Attached(domain) {
			slog.Error("a lease could not be looked at", "key", v.key, "err", err)
			err = nil
		}
		return err
	}
	devices, err := v.devices()
	if err == nil && h.Write {
		err = v.flush(devices)
	}
	if err == nil && h.Write && IsMigration(domain) {
		err = v.flushReceived()
	}
	if err == nil && h.Write && (lease.IsDom0(domain) || IsMigration(domain)) {
		err = v.flushFile(devices)
	}
	if err == nil && h.Write && !IsMigration(domain) && !v.isWrittenBeside(domain) {
		err = v.sendLast()
	}
	if err != nil && h.Write {
		return err
	}
	before := v.state.Active
	v.state.Active = slices.DeleteFunc(slices.Clone(before), func(h lease.Holder) bool { return h.Domain == domain })
	if err := v.save(); err != nil {
		v.state.Active = before
		return err
	}
	if err := v.publish(); err != nil && (h.Write || !v.hasFailed(err)) {
		v.state.Active = before
		return errors.Join(err, v.save())
	}
	if !v.state.InUse() {
		// Whoever writes next lifts the mark as well.
		if _, e := allow(devices, true); !errors.Is(e, loop.ErrGone) {
			err = errors.Join(err, e)
		}
		if err != nil {
			slog.Warn("the device stays marked read-only for now", "key", v.key, "err", err)
		}
	}
	return nil
}

// flush makes what was written to devices durable.
func (v *session) flush(devices []loop.Device) error {
	for _, d := range devices {
		if err := d.Flush(); err != nil && !errors.Is(err, loop.ErrGone) {
			return fmt.Errorf("volume %s: what was written may be lost: %w", v.key, err)
		}
	}
	return nil
}

// isWrittenBeside says whether another domain may write to the volume, that is no migration's.
func (v *session) isWrittenBeside(domain string) bool {
	return slices.ContainsFunc(v.state.Active, func(h lease.Holder) bool { return h.Domain != domain && h.Write && !IsMigration(h.Domain) })
}
