package repository

import (
	"context"
	"path/filepath"

	"reflinksr/datapath/lease"
)

// Disk is a volume that has a device on this host: two are the same as long as it has this one.
type Disk struct {
	SR       string // its UUID
	Key      Key
	Device   string // the kernel's name of it
	Sequence uint64 // which device of that name it is; 0 where the kernel does not tell
}

// Disks lists the devices of volumes on this host, without a look into any SR, so that it says nothing of SRs, costs little, and
// holds up nobody.
func Disks(context.Context) ([]Disk, error) {
	noted, err := lease.Disks()
	all := make([]Disk, len(noted))
	for i, d := range noted {
		all[i] = Disk{d.SR, d.Key, filepath.Base(d.Device.Path()), d.Device.Sequence}
	}
	return all, err
}
