package hostinfo

import (
	"errors"
	"os"
	"strings"

	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// Host is this host and this boot of it.
type Host struct {
	UUID string // the toolstack's host UUID, else one made of the machine-id
	Boot string // changes with every boot
}

// Nameless says that the host has no identity of its own, only that of its boot.
func (h Host) Nameless() bool { return h.UUID == h.Boot }

// ThisHost identifies the host: INSTALLATION_UUID of /etc/xensource-inventory,
// which is the UUID the toolstack knows the host by, else /etc/machine-id; and
// the kernel's boot id.
func ThisHost() (Host, error) {
	boot, err := sys.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Host{}, err
	}
	inventory, err := sys.ReadFile("/etc/xensource-inventory")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Host{}, err
	}
	id, err := sys.ReadFile("/etc/machine-id")
	if err != nil && !errors.Is(err, os.ErrNotExist) && inventory == nil {
		return Host{}, err
	}
	return identified(boot, inventory, id)
}

// identified makes an identity of what those files hold; nil for one that is not there.
func identified(boot, inventory, machineID []byte) (Host, error) {
	h := Host{Boot: strings.TrimSpace(string(boot))}
	for line := range strings.Lines(string(inventory)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "INSTALLATION_UUID="); ok {
			if u, ok := uuids.Parse(strings.Trim(value, `'"`)); ok {
				h.UUID = u.String()
				return h, nil
			}
		}
	}
	if inventory != nil {
		// Another identity than the toolstack's would be worse than none.
		return h, errors.New("/etc/xensource-inventory has no INSTALLATION_UUID")
	}
	u, ok := uuids.Parse(strings.TrimSpace(string(machineID)))
	if !ok {
		// No machine-id yet: an identity for this boot only, so that nothing of a
		// former boot is taken for ours.
		h.UUID = h.Boot
		return h, nil
	}
	h.UUID = u.String()
	return h, nil
}
