package repository

import (
	"context"

	"reflinksr/datapath"
)

// Open says whether the writes of guests are to last, before the first of them has the disk.
func (d Datapath) Open(_ context.Context, persistent bool) error {
	return datapath.Open(string(d), persistent)
}

// OpenFor is Open for a copy that only one domain gets, and that is thrown away when it is detached from that.
func (d Datapath) OpenFor(_ context.Context, domain string) error {
	return datapath.OpenFor(string(d), domain)
}

// Paths are the ways to get at an attached volume.
type Paths = datapath.Paths

// CanServe says whether this host has the program that serves disks by NBD. Without it nothing is received.
func CanServe() bool { return datapath.CanServe() }

// Attach makes the volume a block device of this host for a domain, and a file as well for dom0. No
// one may use it before Activate.
func (d Datapath) Attach(_ context.Context, domain string) (Paths, error) {
	return datapath.Attach(string(d), domain)
}

// Activate lets a domain use the device: alone for writing, unless the volume is sharable, or
// together with other readers. fault.ErrInUse and fault.ErrElsewhere say who has it.
func (d Datapath) Activate(_ context.Context, domain string, readOnly bool) error {
	return datapath.Activate(string(d), domain, readOnly)
}

// Deactivate ends that: what was written is durable, and the volume is free for others.
func (d Datapath) Deactivate(_ context.Context, domain string) error {
	return datapath.Deactivate(string(d), domain)
}

// Detach takes the device from a domain. It succeeds whatever the state of things.
func (d Datapath) Detach(_ context.Context, domain string) error {
	return datapath.Detach(string(d), domain)
}

// Close ends what Open began: a nonpersistent disk is gone.
func (d Datapath) Close(context.Context) error { return datapath.Close(string(d)) }
