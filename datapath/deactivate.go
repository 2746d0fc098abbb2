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
	if v.unreadable != nil {
		if errors.As(v.unreadable, new(*os.PathError)) {
			return v.unreadable // too many open files, say: it can be read again in a moment
		}
		// Nobody knows who is active: nothing is lost, and nothing is taken from others.
		return v.flush(v.files())
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
	if h.Write {
		if err := v.flush([][2]uint64{{v.state.Dev, v.state.Ino}}); err != nil {
			return err
		}
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
	if len(v.state.Active) == 0 {
		// Whoever writes next lifts the mark as well.
		if err := v.allow(true); err != nil {
			slog.Warn("the device stays marked read-only for now", "key", v.key, "err", err)
		}
	}
	return nil
}

// flush makes what was written to the files' devices durable.
func (v *session) flush(files [][2]uint64) error {
	for _, file := range files {
		devices, err := v.devicesOf(file[0], file[1])
		if err != nil {
			return err
		}
		for _, d := range devices {
			if err := d.Flush(); err != nil && !errors.Is(err, loop.ErrGone) {
				return fmt.Errorf("volume %s: what was written may be lost: %w", v.key, err)
			}
		}
	}
	return nil
}
