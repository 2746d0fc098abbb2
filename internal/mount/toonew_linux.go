package mount

import (
	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/xfs"
)

// tooNew says of an XFS that the kernel has refused which of its features this kernel does not know, and what
// to do: the kernel tells it to its log only. nil if it has none that came after Linux 4.19.
func (m Spec) tooNew() error {
	d, err := blockdev.Open(m.Source)
	if err != nil {
		return nil // then that is not why
	}
	defer d.Close()
	sb, err := d.ReadSuperblock()
	if err != nil {
		return nil
	}
	return tooNew(m.Source, sb.Features, hostinfo.ThisKernel())
}

func tooNew(device string, f xfs.Features, kernel hostinfo.Kernel) error {
	newer := f.After419()
	if len(newer) == 0 {
		return nil
	}
	unknown := xfs.UnknownTo(newer, kernel.Major, kernel.Minor)
	host := "a host with a newer Linux"
	if since := xfs.FirstLinux(unknown); since != "" {
		host = "a host with Linux " + since + " or later"
	}
	return fault.Hint(fault.Errorf(fault.ErrUnsuitable, device, "%s cannot be mounted: its XFS was made with %s, which this host's kernel (%s) does not know", device, xfs.Names(unknown), kernel),
		"attach the SR on %s, and copy its disks to a new one on a disk that this version formats: that, every host since Linux 4.19 can mount", host)
}
