package xenstore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Backends is where this host's blkback devices are, by the domain that has them and the number of the device in it.
const Backends = "/local/domain/0/backend/vbd"

// Disk is a disk of a domain.
type Disk struct {
	Domain       uint32
	VM           string // UUID, as the toolstack wrote it: two domains have one while a VM is migrated within this host
	Name         string // as the guest calls it: xvda
	Major, Minor uint32 // of the block device of this host behind it
	Path         string // of that; what counts where the numbers are not known yet (0, 0)
	Connected    bool   // the guest uses it
}

// Disks lists the disks that domains have of block devices of this host. Those that are just being made or removed are left out.
func (c *Client) Disks() ([]Disk, error) {
	domains, err := c.Directory(Backends)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Disk
	for _, domain := range domains {
		id, err := strconv.ParseUint(domain, 10, 32)
		if err != nil {
			continue
		}
		vm, err := c.Read("/local/domain/" + domain + "/vm")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		uuid, _, _ := strings.Cut(strings.TrimPrefix(vm, "/vm/"), "/")
		devices, err := c.Directory(Backends + "/" + domain)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, device := range devices {
			d, err := c.disk(Backends + "/" + domain + "/" + device)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			d.Domain, d.VM = uint32(id), uuid
			all = append(all, d)
		}
	}
	return all, nil
}

// connected is XenbusStateConnected.
const connected = "4"

// disk reads one backend. The hotplug script writes the numbers, in base 16, once it has looked at the path.
func (c *Client) disk(at string) (d Disk, err error) {
	if d.Name, err = c.Read(at + "/dev"); err != nil {
		return d, err
	}
	state, err := c.Read(at + "/state")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return d, err
	}
	d.Connected = state == connected
	numbers, err := c.Read(at + "/physical-device")
	if err == nil {
		if _, e := fmt.Sscanf(numbers, "%x:%x", &d.Major, &d.Minor); e == nil {
			return d, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return d, err
	}
	d.Path, err = c.Read(at + "/params")
	return d, err
}
