package datapath

import (
	"errors"
	"os"
	"slices"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/sr"
	"reflinksr/volume"
)

// Paths are the ways to get at an attached volume.
type Paths struct {
	Device string // a block device
	File   string // a link to its file, or "": only dom0 may have that, see offersFile
	NBD    string // the address of its server, which listens while it is active, or "": only a migration has one
}

// Attach makes the volume a device on this host for a domain, and returns its path. Several
// domains share one device; attaching one again returns it again. Nobody may use it before
// activating it.
func Attach(uri, domain string) (p Paths, err error) {
	if err := checkDomain(domain); err != nil {
		return p, err
	}
	v, err := begin(uri)
	if err != nil {
		return p, err
	}
	defer v.end()
	if err := v.must(); err != nil {
		return p, err
	}
	err = v.lockedToRenew(func(s *sr.SR) error {
		r, err := volume.LoadForChange(s, v.key)
		if err == nil {
			err = r.MustHaveData(v.key)
		}
		if err != nil {
			return err
		}
		if err := v.mayHave(s, domain); err != nil {
			return err
		}
		f, writable, err := v.file(s, r)
		if err != nil {
			return err
		}
		defer f.Close()
		d, err := v.attach(s, r, f, writable, domain)
		if err != nil {
			return err
		}
		p = Paths{Device: d.Path(), File: v.offerFile(s, r, domain), NBD: v.address(domain)}
		if _, active := v.state.Holder(domain); active {
			return v.serve(s, domain) // the server may have been killed: it is asked for here before it is connected to
		}
		return nil
	})
	return p, err
}

func (v *session) attach(s *sr.SR, r *volume.Record, f *os.File, writable bool, domain string) (_ loop.Device, err error) {
	if renews(s) { // where not, a filesystem that has failed is not asked for what cannot be there
		if err := v.undoRenewal(s); err != nil {
			return loop.Device{}, err
		}
	}
	if err := v.rebind(s); err != nil {
		return loop.Device{}, err
	}
	before := v.state
	if !before.Nonpersistent {
		if err := lease.InPlaceAmong(s, v.key, before, v.loops); err != nil {
			return loop.Device{}, err
		}
	}
	if writable {
		if err := volume.Align(f); err != nil {
			return loop.Device{}, err
		}
	}
	dev, ino, size, err := identify(f)
	if err != nil {
		return loop.Device{}, err
	}
	// The intention first: if we die after binding the device, detach knows of it.
	v.state.Dev, v.state.Ino, v.state.Used = dev, ino, true
	if !slices.Contains(v.state.Domains, domain) {
		v.state.Domains = append(slices.Clone(v.state.Domains), domain)
	}
	defer func() {
		if err != nil {
			v.state = before
			err = errors.Join(err, v.save())
		}
	}()
	if err := v.save(); err != nil {
		return loop.Device{}, err
	}
	existing, err := v.devicesOf(dev, ino)
	if err != nil {
		return loop.Device{}, err
	}
	if len(existing) > 1 {
		return loop.Device{}, fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: it has several devices, %s and %s, not all of our making", v.key, existing[0].Path(), existing[1].Path()),
			"detach them (losetup -d)")
	}
	want, err := wanted(s, f, r, size, writable)
	if err != nil {
		return loop.Device{}, err
	}
	if len(existing) == 1 && len(before.Domains) == 0 {
		// A device that is nobody's becomes the volume's: a crashed attach left it, or a program.
		strangers, err := lease.Strangers(s, v.key, v.me)
		if err != nil {
			return loop.Device{}, err
		}
		if len(strangers) > 0 {
			return loop.Device{}, fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: it has the device %s, which this host does not know of, and is active in %s", v.key, existing[0].Path(), strangers[0]),
				"detach it there; if that is no more: losetup -d %s", existing[0].Path())
		}
	}
	if len(existing) == 1 {
		d, ok, err := v.reuse(existing[0], want, len(before.Domains) > 0)
		if ok && err == nil && (!v.state.Bound() || d.Number != v.state.Number) {
			v.remember(d)
		}
		if ok || err != nil {
			return d, err
		}
	}
	d, renewed, err := v.renew(s, f, want)
	if !renewed && err == nil {
		d, err = v.bind(f, want)
	}
	if err == nil {
		v.remember(d)
	}
	return d, err
}
