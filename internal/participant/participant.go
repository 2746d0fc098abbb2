// Package participant is the note that a host leaves in a shared SR while it has it attached: which machine it is, in which boot, and with
// which release of the program.
package participant

import (
	"encoding/json"
	"log/slog"
	"os"
	"time"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
)

// Host is a host that has the SR attached.
type Host struct {
	Format   int               `json:"format"`
	Host     string            `json:"host"`
	Boot     string            `json:"boot"`
	Hardware hostinfo.Hardware `json:"hardware"`
	Name     string            `json:"name"`              // of the host, for people
	Release  string            `json:"release,omitempty"` // of the program that attached it there; none before there was a second
	Attached time.Time         `json:"attached"`
}

// ThisHost is the note of this host, which is me, now.
func ThisHost(me hostinfo.Host) Host {
	h := Host{Format: layout.Format, Host: me.UUID, Boot: me.Boot, Hardware: hostinfo.ThisHardware(), Attached: time.Now().UTC().Truncate(time.Second), Release: hostinfo.Release}
	h.Name, _ = os.Hostname()
	return h
}

// Marshal is the note as it is in its file.
func (h Host) Marshal() []byte {
	data, _ := json.Marshal(h) // texts, numbers and a time of now: none of them can fail
	return data
}

// MayReplace refuses to take another machine's place in the list of the SR at a path.
func (h Host) MayReplace(there Host, path string) error {
	if there.Boot == h.Boot {
		return nil
	}
	same, known := h.Hardware.Same(there.Hardware)
	if known && !same {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "SR %s is attached by another machine with this host's UUID %s (%q, since %s), as machines have that were installed from one image", path, h.Host, fault.Shorten(there.Name), there.Attached.Format(time.RFC3339)),
			"give one of them another identity (remove /etc/machine-id and run systemd-machine-id-setup, or install XCP-ng anew), then attach the SR again; if that machine is no more, or was this one before it was rebuilt, run: srctl lease forget %s %s", path, h.Host)
	}
	if !known {
		slog.Warn("a host with this UUID has attached the SR in another boot, and nobody can tell whether that was this machine", "sr", path, "host", h.Host)
	}
	return nil
}

// Read reads the note of a host out of the directory of them.
func Read(hosts *dirfs.Dir, uuid string) (m Host, err error) {
	data, err := hosts.Read(uuid, record.Limit)
	if err != nil {
		return m, err
	}
	return parse(data, hosts.Join(uuid))
}

func parse(data []byte, path string) (m Host, err error) {
	if err := json.Unmarshal(data, &m); err != nil || m.Format < 1 {
		return m, fault.Hint(fault.Errorf(fault.ErrDamaged, path, "%s, which tells of a host that has the SR attached, cannot be read (%v)", path, err),
			"remove it when that host has the SR detached")
	}
	if m.Format > layout.Format {
		return m, fault.Hint(fault.Errorf(fault.ErrNewer, path, "%s has format %d, this version knows %d", path, m.Format, layout.Format),
			"update reflinksr on this host")
	}
	return m, nil
}
