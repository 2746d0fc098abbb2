package blockdev

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"reflinksr/internal/sys"
)

// hostDisks lists the block devices of this host that are not part of others, and not a
// guest's as far as their names tell. It opens none.
func hostDisks() (nodes []string, err error) {
	nodes, err = blockDevices()
	return slices.DeleteFunc(nodes, IsHeld), err
}

// IsHeld says whether something is made of the device: that has all that is on it.
func IsHeld(node string) bool {
	holders, err := os.ReadDir("/sys/class/block/" + SysName(node) + "/holders")
	return err == nil && len(holders) > 0
}

// SysName is the name that the kernel gives to the device of a node.
func SysName(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/dev/"), "/", "!")
}

// discDrive matches drives whose discs nobody makes an SR on, and that take long to say that
// there is none.
func discDrive(name string) bool {
	number := strings.TrimPrefix(strings.TrimPrefix(name, "fd"), "sr")
	_, err := strconv.Atoi(number)
	return number != name && err == nil
}

// blockDevices lists those that have a size, but not what is a guest's by its name.
func blockDevices() (nodes []string, err error) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	o := Owners(false)
	for _, e := range entries {
		sysfs := "/sys/class/block/" + e.Name()
		if size := strings.TrimSpace(sys.Text(sysfs + "/size")); size == "0" || size == "" || discDrive(e.Name()) {
			continue
		}
		dev, err := ParseNumber(sys.Text(sysfs + "/dev"))
		if err != nil {
			continue
		}
		if owner, err := o.Of(dev); err != nil || owner != "" {
			continue
		}
		nodes = append(nodes, "/dev/"+strings.ReplaceAll(e.Name(), "!", "/"))
	}
	return nodes, nil
}
