package volume

import (
	"errors"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
)

// BreakLease ends the use of a volume by other hosts, on paper: for when a host has
// died. Whoever is still alive must be stopped first. It returns who had the
// volume, or that nobody can tell, for the lease was damaged. What this host has active
// is ended by Datapath.deactivate.
func BreakLease(handle string, key sr.Key) (holders []lease.Holder, damaged bool, err error) {
	err = locked(handle, key, dirfs.Exclusive, func(s *sr.SR, k sr.Key) error {
		me, err := hostinfo.ThisHost()
		if err != nil {
			return err
		}
		// Of this host as well only what the file says: a note is no claim to break.
		held, err := lease.ReadFile(s, k)
		if err != nil && !errors.Is(err, fault.ErrDamaged) {
			return err
		}
		lock, e := s.LockLeases()
		if e != nil {
			return e
		}
		defer lock.Unlock()
		note, e := lease.NoteOf(s, k)
		if e != nil {
			return e
		}
		damaged = err != nil
		others := slices.DeleteFunc(held.Holders, func(h lease.Holder) bool { return h.Here(me) })
		if !damaged && len(others) == 0 {
			return nil
		}
		if err := lease.WriteFile(s, k, note.Active); err != nil {
			return err
		}
		holders = others
		return nil
	})
	return holders, damaged && err == nil, err
}

// ForgetHost ends the use of all volumes by a host that is no more, and takes it off the list
// of those that have the SR attached. The SR in the directory need not be attached: its host
// may have been the only one. What of that host is of this boot stays.
func ForgetHost(path, host string) (broken map[sr.Key][]lease.Holder, err error) {
	seen, err := sr.Inspect(path)
	if err != nil {
		return nil, err
	}
	uuid := seen.Meta.UUID
	seen.Close()
	s, err := sr.OpenAt(path, uuid, dirfs.Shared)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	me, err := hostinfo.ThisHost()
	if err != nil {
		return nil, err
	}
	names, err := s.Leases.Names()
	if err != nil {
		return nil, err
	}
	lock, err := s.LockLeases()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	broken = map[sr.Key][]lease.Holder{}
	for _, name := range names {
		key, err := sr.ParseKey(name)
		if err != nil {
			continue
		}
		l, err := lease.ReadFile(s, key)
		if err != nil {
			return broken, err
		}
		gone := func(h lease.Holder) bool { return h.Host == host && !h.Here(me) }
		left := slices.DeleteFunc(slices.Clone(l.Holders), gone)
		if len(left) == len(l.Holders) {
			continue
		}
		if err := lease.WriteFile(s, key, left); err != nil {
			return broken, err
		}
		broken[key] = slices.DeleteFunc(l.Holders, func(h lease.Holder) bool { return !gone(h) })
	}
	return broken, s.ForgetHost(host)
}
