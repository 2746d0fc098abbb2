package repository

import (
	"context"
	"errors"

	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Holder is one domain that has a volume active.
type Holder = lease.Holder

// Active is a volume and who has it active.
type Active struct {
	Key     Key
	Holders []Holder
}

// Leases lists who has volumes of the SR active, on all hosts, in the order of their keys.
// Those of which nobody can tell are the error.
func (s SR) Leases(ctx context.Context) (active []Active, failed error) {
	open, err := sr.Open(string(s), dirfs.Unlocked)
	if err != nil {
		return nil, err
	}
	defer open.Close()
	me, err := hostinfo.ThisHost()
	if err != nil {
		return nil, err
	}
	keys, err := volume.Keys(open)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := context.Cause(ctx); err != nil {
			return active, errors.Join(failed, err)
		}
		l, err := lease.Read(open, key, me)
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		failed = errors.Join(failed, err)
		if len(l.Holders) > 0 {
			active = append(active, Active{key, l.Holders})
		}
	}
	return active, failed
}

// BreakLease ends the use of the volume by other hosts, on paper: for when a host has died.
// Whoever is still alive must be stopped first. It returns who had it, or that nobody can tell,
// for the lease was damaged.
func (v Volume) BreakLease(context.Context) (holders []Holder, damaged bool, err error) {
	return volume.BreakLease(string(v.SR), v.Key)
}

// ForgetHost ends the use of all volumes of the SR in a directory by a host that is no more. The
// SR need not be attached. It returns which leases were broken, also with an error.
func ForgetHost(_ context.Context, path, host string) (broken map[Key][]Holder, err error) {
	return volume.ForgetHost(path, host)
}
