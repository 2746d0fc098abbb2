package datapath

import (
	"errors"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
)

// DetachIdle is Deactivate and Detach, for who must not take a disk from whoever uses it: fault.ErrInUse if the domain is the last that
// has the device, and a program has it open or something is mounted from it.
func DetachIdle(uri, domain string) error {
	if err := mustBeClosed(uri, domain); err != nil {
		return err
	}
	if err := Deactivate(uri, domain); err != nil {
		return err
	}
	return Detach(uri, domain)
}

func mustBeClosed(uri, domain string) error {
	v, err := beginToGiveBack(uri)
	if v == nil {
		return err
	}
	defer v.end()
	if err := v.must(); err != nil || !v.state.Attached(domain) || len(v.state.Domains) > 1 {
		return err
	}
	devices, err := v.devices()
	if err != nil {
		return err
	}
	for _, d := range devices {
		if isClaimed(d) || hasProgram(d) {
			return fault.Hint(fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: its device %s is open", v.key, d.Path()), "end what has it open, or unmount it")
		}
	}
	return nil
}

// isClaimed says whether the kernel has a device for itself: it is mounted, or below another.
func isClaimed(d loop.Device) bool {
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}
