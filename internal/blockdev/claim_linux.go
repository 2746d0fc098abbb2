package blockdev

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// Claim opens the disk for nobody else to use meanwhile. In use already are disks that
// are mounted, swapped to, or a part of something else.
func (d *Disk) Claim(flags int) (*os.File, error) {
	owner, err := OwnerOf(d.dev, true)
	if err != nil {
		return nil, err
	}
	if owner != "" {
		return nil, NotOurs(d.path, owner)
	}
	return d.ClaimAny(flags)
}

// ClaimAny is claim, whosever disk it is.
func (d *Disk) ClaimAny(flags int) (*os.File, error) {
	var f *os.File
	var users []string
	err := sys.Insist(unix.EBUSY, func() error {
		users = nil
		fd, err := unix.Open(d.path, flags|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), d.path)
		if users = Users(d.dev); len(users) > 0 {
			f.Close()
			return unix.EBUSY
		}
		return nil
	})
	switch {
	case err == unix.EBUSY && len(users) > 0:
		return nil, fault.Hint(fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use by %s", d.path, strings.Join(users, ", ")),
			"choose another device, or end that")
	case err == unix.EBUSY:
		return nil, fault.Hint(fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use%s", d.path, UsedBy(d.path)),
			"choose another device, or end that")
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	st, err := sys.Fstat(f)
	if err == nil && st.Rdev != d.dev {
		err = fault.Hint(fault.Errorf(fault.ErrBusy, d.path, "%s became another device meanwhile", d.path),
			"try again")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// FreeByAllPaths refuses a disk that is in use by another name: the kernel takes two paths
// to one disk for two.
func (d *Disk) FreeByAllPaths() error {
	same, err := d.identity()
	if err != nil || same == "" {
		return err
	}
	others, err := otherPaths(same, d.dev)
	if err != nil {
		return err
	}
	for _, path := range others {
		inUse := func(err error) error {
			return fault.Errorf(fault.ErrSRInUse, d.path, "%s is the same disk as %s (%s): %v", d.path, path, fault.Shorten(same), err)
		}
		if _, err := LookAt("disk", path, lookTimeout); IsShortage(err) {
			return err
		} else if err != nil {
			return inUse(err) // it may be
		}
		other, err := Open(path)
		if err != nil {
			return inUse(err)
		}
		claimed, err := other.Claim(unix.O_RDONLY)
		other.Close()
		if err != nil {
			return inUse(err)
		}
		claimed.Close()
	}
	return nil
}

// NotOurs refuses the disk of a guest.
func NotOurs(path, owner string) error {
	return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is no disk of this host: it is %s", path, owner),
		"choose another device")
}
