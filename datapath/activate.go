package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Activate gives an attached domain the right to use the volume: to write to it,
// unless readOnly is set or the volume is read-only. There is one writer, or any
// number of readers, never both; a sharable volume may have several writers. A
// holder on another host is ErrElsewhere with that host's UUID as its item.
func Activate(uri, domain string, readOnly bool) error {
	if err := checkDomain(domain); err != nil {
		return err
	}
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return err
	}
	return v.leased(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		if err != nil {
			return err
		}
		if !v.state.Attached(domain) {
			return fault.Hint(fault.Errorf(fault.ErrInvalid, domain, "volume %s is not attached to domain %s", v.key, domain),
				"attach it first")
		}
		write := !readOnly && (r.ReadWrite || v.state.Nonpersistent)
		held, err := lease.Read(s, v.key, v.me)
		if !write && s.HasFailed(err) {
			// What can still be read shall be read, and here the note has all that counts.
			slog.Warn("the volume's lease cannot be looked at", "key", v.key, "err", err)
			held, err = lease.Lease{Holders: v.state.Active}, nil
		}
		if err != nil {
			return err
		}
		held.Holders = withoutLocks(held.Holders, v.me)
		if lock := lease.LockAmong(held.Holders); lock != nil {
			return lock.InUse(v.key, v.me) // sharable or not: another host has it
		}
		already, inTheWay := admit(held.Holders, v.me, domain, write, r.Sharable)
		if inTheWay != nil {
			if held.Holders, err = v.giveWay(held.Holders, domain); err != nil {
				return err
			}
			already, inTheWay = admit(held.Holders, v.me, domain, write, r.Sharable)
		}
		if inTheWay != nil {
			return inTheWay.InUse(v.key, v.me)
		}
		if already {
			return errors.Join(v.present(write), v.serve(s, domain))
		}
		if err := v.rebind(s); err != nil {
			return err
		}
		if err := lease.InPlaceAmong(s, v.key, v.state, v.loops); err != nil {
			return err
		}
		if err := v.makeWhole(s, domain, write); err != nil {
			return err
		}
		before := v.state.Active
		v.state.Active = append(slices.Clone(before), lease.NewHolder(s, v.me, domain, write))
		err = lease.Publish(s, v.key, v.me, v.state.Active)
		if err == nil || !write && s.HasFailed(err) {
			err = v.save()
		}
		if err == nil {
			err = v.present(write)
		}
		if err == nil {
			err = v.serve(s, domain)
		}
		if err != nil {
			v.state.Active = before
			return errors.Join(fmt.Errorf("volume %s: taking its lease: %w", v.key, err), v.save(), lease.Publish(s, v.key, v.me, before))
		}
		return nil
	})
}

// admit says whether a domain of this host may join the holders, and whether it is one. inTheWay is one that
// excludes it: a writer is alone, but of a sharable volume, and readers are among themselves.
func admit(held []lease.Holder, me hostinfo.Host, domain string, write, sharable bool) (already bool, inTheWay *lease.Holder) {
	for _, h := range held {
		if h.Here(me) && h.Domain == domain && h.Write == write {
			return true, nil
		}
	}
	for _, h := range held {
		if h.Write == write && (!write || sharable) {
			continue
		}
		return false, &h
	}
	return false, nil
}

// present prepares the device for a domain that has the lease.
func (v *session) present(write bool) error {
	devices, err := v.devices()
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		return fault.Hint(fault.Errorf(fault.ErrInvalid, string(v.key), "volume %s has lost its device", v.key),
			"attach again")
	}
	always, err := allow(devices, write)
	if err == nil && always && write {
		return fault.Hint(fault.Errorf(fault.ErrReadOnly, string(v.key), "volume %s was attached while its filesystem was read-only", v.key),
			"detach it and attach it again")
	}
	return err
}

// allow lets programs of this host write to devices, or not; always says whether one is bound read-only, and stays so. The mark
// would outlast the device and meet the next user of its number: whoever sets it lifts it.
func allow(devices []loop.Device, write bool) (always bool, err error) {
	for _, d := range devices {
		bound, e := d.SetReadOnly(!write)
		always, err = always || bound, errors.Join(err, e)
	}
	return always, err
}
