package repository

import (
	"context"
	"errors"

	"reflinksr/datapath/lease"
	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Operator is the domain for which srctl gives this host a disk. What writes where it is told to may write to that.
const Operator = attached.Operator

// AttachHere gives the volume to a domain of this host, to be read or also written to, and returns the path of its device. What
// fails is taken back. fault.ErrInUse if that domain, or one that excludes it, has it.
func (v Volume) AttachHere(ctx context.Context, domain string, readOnly bool) (device string, err error) {
	return v.attachHere(ctx, domain, true, readOnly)
}

// AttachCopyHere gives a domain of this host a copy of the volume as it is now, that can be written to, and that DetachHere throws
// away. The volume itself stays as it is, and nobody else has it meanwhile.
func (v Volume) AttachCopyHere(ctx context.Context, domain string) (device string, err error) {
	return v.attachHere(ctx, domain, false, false)
}

func (v Volume) attachHere(ctx context.Context, domain string, persistent, readOnly bool) (device string, err error) {
	uri, has, err := v.hereOf(domain)
	if err != nil {
		return "", err
	}
	if has != "" {
		return "", fault.Hint(fault.Errorf(fault.ErrInUse, string(v.Key), "volume %s is attached already, as %s", v.Key, has), "detach it first")
	}
	if persistent {
		err = uri.Open(ctx, true)
	} else {
		err = uri.OpenFor(ctx, domain)
	}
	if err != nil {
		return "", err
	}
	paths, err := uri.Attach(ctx, domain)
	if err == nil {
		err = uri.Activate(ctx, domain, readOnly)
	}
	if err == nil {
		return paths.Device, nil
	}
	// Another process may have given it to the domain meanwhile, which is not to lose it.
	note, e := v.noteHere()
	if _, active := note.Holder(domain); !active {
		err = errors.Join(err, e, uri.Detach(ctx, domain))
	}
	return "", err
}

// DetachHere takes the volume from a domain of this host that AttachHere or AttachCopyHere gave it to: fault.ErrInvalid if it does not have it. What
// was written is durable then.
func (v Volume) DetachHere(ctx context.Context, domain string) error {
	uri, has, err := v.hereOf(domain)
	if err != nil {
		return err
	}
	if has == "" {
		return fault.Errorf(fault.ErrInvalid, string(v.Key), "volume %s is not attached in this way", v.Key)
	}
	if err := uri.Deactivate(ctx, domain); err != nil {
		return err
	}
	return uri.Detach(ctx, domain)
}

// DeviceHere is the device by which a domain of this host has the volume: "" if it has none.
func (v Volume) DeviceHere(_ context.Context, domain string) (device string, err error) {
	_, device, err = v.hereOf(domain)
	return device, err
}

func (v Volume) hereOf(domain string) (uri Datapath, device string, err error) {
	s, err := sr.Open(string(v.SR), dirfs.Unlocked)
	if err != nil {
		return "", "", err
	}
	defer s.Close()
	if _, err := volume.Load(s, v.Key); err != nil {
		return "", "", err
	}
	note, err := lease.NoteOf(s, v.Key)
	if err != nil {
		return "", "", err
	}
	uri = Datapath(volume.URI(s, v.Key))
	if !note.Attached(domain) {
		return uri, "", nil
	}
	device = "a device that is gone"
	if d, err := lease.DeviceOf(s, v.Key); err == nil && d != nil {
		device = d.Path
	}
	return uri, device, nil
}

// noteHere is what this host notes of the volume's devices.
func (v Volume) noteHere() (lease.Note, error) {
	s, err := sr.Open(string(v.SR), dirfs.Unlocked)
	if err != nil {
		return lease.Note{}, err
	}
	defer s.Close()
	return lease.NoteOf(s, v.Key)
}
