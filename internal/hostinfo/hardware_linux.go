package hostinfo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
	"reflinksr/internal/uuids"
)

// Hardware is what tells this machine from others when its UUID does not: hosts that were
// installed from one image have the same one.
type Hardware struct {
	System string   `json:"system,omitempty"` // UUID in the firmware (DMI)
	NICs   []string `json:"nics,omitempty"`   // permanent addresses of network interfaces, sorted
}

// Same says whether two are one machine, and whether that can be told at all. Boards of one
// maker may have one UUID, and an interface can be plugged into another machine: whatever
// both have must agree.
func (h Hardware) Same(other Hardware) (same, known bool) {
	same = true
	if h.System != "" && other.System != "" {
		known = true
		same = h.System == other.System
	}
	if len(h.NICs) > 0 && len(other.NICs) > 0 {
		known = true
		same = same && slices.ContainsFunc(h.NICs, func(a string) bool { return slices.Contains(other.NICs, a) })
	}
	return same && known, known
}

// Known says whether there is anything to tell the machine by.
func (h Hardware) Known() bool { return h.System != "" || len(h.NICs) > 0 }

// ThisHardware looks at the machine, once.
var ThisHardware = sync.OnceValue(func() Hardware {
	return Hardware{System: systemUUID(sys.Text("/sys/class/dmi/id/product_uuid")), NICs: permanentAddresses()}
})

// systemUUID is the UUID in the firmware, unless it is one that makers leave in every board.
func systemUUID(text string) string {
	u := strings.ToLower(strings.TrimSpace(text))
	switch {
	case !uuids.IsCanonical(u), strings.Trim(u, "0-") == "", strings.Trim(u, "f-") == "", u == "03000200-0400-0500-0006-000700080009":
		return ""
	}
	return u
}

// permanentAddresses lists those that the makers of the interfaces gave them: what is
// configured may be another's as well (bonds, bridges).
func permanentAddresses() (all []string) {
	links, _ := filepath.Glob("/sys/class/net/*/device")
	for _, link := range links {
		dir := filepath.Dir(link)
		address := permanentAddress(filepath.Base(dir))
		if address == "" && strings.TrimSpace(sys.Text(dir+"/addr_assign_type")) == "0" {
			address = strings.TrimSpace(sys.Text(dir + "/address"))
		}
		if strings.Trim(address, "0:") != "" && strings.Trim(address, "f:") != "" {
			all = append(all, address)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// permanentAddress asks the driver (ethtool(8) -P): "" if it does not know.
func permanentAddress(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	s := os.NewFile(uintptr(fd), "socket")
	defer s.Close()
	const length = 32 // MAX_ADDR_LEN
	var answer struct {
		cmd, size uint32
		data      [length]byte
	}
	answer.cmd, answer.size = unix.ETHTOOL_GPERMADDR, length
	var request struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&answer)
	if sys.Ioctl(s, unix.SIOCETHTOOL, unsafe.Pointer(&request)) != nil || answer.size != 6 {
		return ""
	}
	return hardwareAddress(answer.data[:6])
}

func hardwareAddress(b []byte) string {
	const digits = "0123456789abcdef"
	var out strings.Builder
	for i, v := range b {
		if i > 0 {
			out.WriteByte(':')
		}
		out.WriteByte(digits[v>>4])
		out.WriteByte(digits[v&15])
	}
	return out.String()
}
