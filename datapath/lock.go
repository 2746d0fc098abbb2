package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
	"reflinksr/volume"
)

// lockHolder is what a lock is called among the domains that have a volume.
const lockHolder = "vdi_lock"

// Lock locks the volume for who calls itself user: until Unlock no other host can attach it to be written to, nobody can destroy or
// revert it, and nobody else can lock it. It needs no device. Locking it again from this host, as the same user, succeeds. Somebody
// else's lock, or use of it on another host, is fault.ErrInUse or fault.ErrElsewhere; force ends that on paper: whoever it is must
// have stopped.
func Lock(uri, user string, force bool) error {
	if user == "" || len(user) > 4096 {
		return fault.Errorf(fault.ErrInvalid, "user", "the string that tells who locks must have 1 to 4096 bytes")
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
		if _, err := volume.LoadForChange(s, v.key); err != nil {
			return err
		}
		held, err := lease.Read(s, v.key, v.me)
		if force && errors.Is(err, fault.ErrDamaged) {
			held, err = lease.Lease{Holders: v.state.Active}, nil // nobody can tell who it was
		}
		if err != nil {
			return err
		}
		mine, inTheWay := admitLock(held.Holders, v.me, user, force)
		if inTheWay != nil {
			return inTheWay.InUse(v.key, v.me)
		}
		if mine { // a call that was killed may not have come to tell the others
			return lease.Publish(s, v.key, v.me, v.state.Active)
		}
		before := v.state.Active
		h := lease.NewHolder(s, v.me, lockHolder, true)
		h.Lock = user
		v.state.Active = append(withoutLocks(before, v.me), h)
		if err = v.save(); err == nil {
			if force {
				err = lease.WriteFile(s, v.key, v.state.Active)
			} else {
				err = lease.Publish(s, v.key, v.me, v.state.Active)
			}
		}
		if err != nil {
			v.state.Active = before
			return errors.Join(fmt.Errorf("volume %s: locking it: %w", v.key, err), v.save(), lease.Publish(s, v.key, v.me, before))
		}
		if force {
			for _, h := range held.Holders {
				if !h.Here(v.me) || h.Lock != "" && h.Lock != user {
					slog.Warn("a volume was locked by force", "key", v.key, "by", user, "from", h.String())
				}
			}
		}
		return nil
	})
}

// admitLock says whether who calls itself user may lock what these hold, and whether it has locked it already. A disk that this
// host has attached by the interface of which locks are is no hindrance: whoever locks it is the one who uses it. force overrules
// locks, and other hosts.
func admitLock(held []lease.Holder, me hostinfo.Host, user string, force bool) (mine bool, inTheWay *lease.Holder) {
	for _, h := range held {
		switch here := h.Here(me); {
		case here && h.Lock == user:
			mine = true
		case here && h.Lock == "" && h.Domain == attached.SMAPIv1:
		case force && (!here || h.Lock != ""):
		default:
			return false, &h
		}
	}
	return mine && !force, nil
}

// withoutLocks are the holders but for locks of this host, which exclude nobody here.
func withoutLocks(held []lease.Holder, me hostinfo.Host) []lease.Holder {
	return slices.DeleteFunc(slices.Clone(held), func(h lease.Holder) bool { return h.Lock != "" && h.Here(me) })
}

// MayActivate says before anything is attached whether Activate would be refused now because of who has the volume.
func MayActivate(uri, domain string, readOnly bool) error {
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return err
	}
	return v.locked(func(s *sr.SR) error {
		r, err := volume.Load(s, v.key)
		if err != nil {
			return err
		}
		held, err := lease.Read(s, v.key, v.me)
		if err != nil {
			return err
		}
		others := withoutLocks(held.Holders, v.me)
		inTheWay := lease.LockAmong(others)
		if inTheWay == nil {
			_, inTheWay = admit(others, v.me, domain, !readOnly && r.ReadWrite, r.Sharable)
		}
		if inTheWay != nil {
			return inTheWay.InUse(v.key, v.me)
		}
		return nil
	})
}

// Unlock ends the lock of the volume by who calls itself user. One that is not locked is unlocked already. Somebody else's lock
// stays: fault.ErrInUse or fault.ErrElsewhere.
func Unlock(uri, user string) error {
	v, err := begin(uri)
	if err != nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return err
	}
	return v.leased(func(s *sr.SR) error {
		if _, err := volume.Load(s, v.key); err != nil && !errors.Is(err, fault.ErrDamaged) {
			return err
		}
		held, err := lease.Read(s, v.key, v.me)
		if err != nil {
			return err
		}
		h := lease.LockAmong(held.Holders)
		if h == nil { // a call that was killed may not have come to tell the others
			return lease.Publish(s, v.key, v.me, v.state.Active)
		}
		if !h.Here(v.me) || h.Lock != user {
			return h.InUse(v.key, v.me)
		}
		before := v.state.Active
		v.state.Active = withoutLocks(before, v.me)
		if err := v.save(); err != nil {
			v.state.Active = before
			return err
		}
		if err := lease.Publish(s, v.key, v.me, v.state.Active); err != nil && !s.HasFailed(err) {
			v.state.Active = before
			return errors.Join(err, v.save())
		}
		return nil
	})
}
