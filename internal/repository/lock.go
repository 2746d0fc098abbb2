package repository

import (
	"context"

	"reflinksr/datapath"
	"reflinksr/datapath/lease"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/layout"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Lock locks the volume for who calls itself user, on whatever host: nobody else can attach it there to be written to, destroy,
// revert or lock it. fault.ErrInUse and fault.ErrElsewhere say who has it; force ends locks, and what other hosts have, on paper.
func (d Datapath) Lock(_ context.Context, user string, force bool) error {
	return datapath.Lock(string(d), user, force)
}

// MayActivate says whether Activate would be refused now because of who has the volume: before anything is attached.
func (d Datapath) MayActivate(_ context.Context, domain string, readOnly bool) error {
	return datapath.MayActivate(string(d), domain, readOnly)
}

// Unlock ends that; of a volume that is not locked it is none. Somebody else's lock stays: fault.ErrInUse or fault.ErrElsewhere.
func (d Datapath) Unlock(_ context.Context, user string) error {
	return datapath.Unlock(string(d), user)
}

// MustBeIdle refuses a volume that somebody has: attached here, active or locked anywhere. fault.ErrInUse says who.
func (v Volume) MustBeIdle(context.Context) error {
	s, err := sr.Open(string(v.SR), dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := volume.Load(s, v.Key); err != nil {
		return err
	}
	return lease.CheckIdle(s, v.Key)
}

// DetachIdle is Deactivate and Detach, unless the domain is the last that has the device, and that is open: fault.ErrInUse.
func (d Datapath) DetachIdle(_ context.Context, domain string) error {
	return datapath.DetachIdle(string(d), domain)
}

// Datapath is the way of the volume to a guest. Whether they are there nobody looks.
func (v Volume) Datapath() (Datapath, error) {
	path, uuid, err := layout.ParseHandle(string(v.SR))
	if err != nil {
		return "", err
	}
	return Datapath(volume.URIAt(path, uuid, v.Key)), nil
}
