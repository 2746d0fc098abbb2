package datapath

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/layout"
	"reflinksr/internal/loop"
	"reflinksr/internal/procs"
	"reflinksr/sr"
	"reflinksr/volume"
)

// IsMigration says whether a domain is none, but a disk on its way: the toolstack attaches the disk that it copies to for one that
// it calls CP and that which it mirrors to for MIR, and some hexadecimal digits.
func IsMigration(domain string) bool {
	number, is := strings.CutPrefix(domain, "MIR")
	if !is {
		number, is = strings.CutPrefix(domain, "CP")
	}
	return is && number != "" && strings.Trim(number, "0123456789abcdef") == ""
}

// giveWay ends the migrations that hold the volume though they are over, and says who is left. The toolstack forgets to: the disk
// of a halted guest would stay active for its migration for good. So a writer of a migration gives way when nobody is connected to
// its server, and no program has the device open. What it wrote is durable then. It is detached as well: nobody else will.
func (v *session) giveWay(held []lease.Holder, to string) (left []lease.Holder, err error) {
	for _, h := range held {
		over := false
		if h.Here(v.me) && h.Write && IsMigration(h.Domain) && h.Domain != to {
			if over, err = v.isOver(); err != nil {
				return held, err
			}
		}
		if !over {
			left = append(left, h)
			continue
		}
		slog.Warn("a migration that is over held the volume, and is detached", "key", v.key, "domain", h.Domain, "for", to)
		v.state.Active = slices.DeleteFunc(slices.Clone(v.state.Active), func(a lease.Holder) bool { return a.Domain == h.Domain })
		v.state.Domains = slices.DeleteFunc(slices.Clone(v.state.Domains), func(d string) bool { return d == h.Domain })
	}
	return left, nil
}

// EndMigrations detaches the volume from migrations that are over, as giveWay has it, for who is to destroy it: else a disk that was migrated
// here for a guest that never ran could not be destroyed before the host boots.
func EndMigrations(handle string, key sr.Key) error {
	path, uuid, err := layout.ParseHandle(handle)
	if err != nil {
		return nil // whoever needs it says so
	}
	uri := volume.URIAt(path, uuid, key)
	if noted, err := isNoted(uri); err != nil || !noted {
		return nil
	}
	v, err := begin(uri)
	if err != nil || v.unreadable != nil {
		return err
	}
	defer v.end()
	before := len(v.state.Active)
	if _, err := v.giveWay(v.state.Active, ""); err != nil || len(v.state.Active) == before {
		return err
	}
	err = errors.Join(v.save(), v.publish())
	if len(v.state.Domains) > 0 || err != nil {
		return err
	}
	if _, err := v.unbind(); err != nil {
		return errors.Join(err, v.save())
	}
	return v.save()
}

// isOver says whether a migration to the volume has nobody any more who could write. Then its server is gone, and what was written
// is durable.
func (v *session) isOver() (bool, error) {
	devices, err := v.devices()
	if err != nil || slices.ContainsFunc(devices, hasProgram) {
		return false, err
	}
	switch err := v.endServer(ifIdle); {
	case errors.Is(err, fault.ErrInUse):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, v.flushFile(devices)
}

// hasProgram says whether a program other than the device's server has it open.
func hasProgram(d loop.Device) bool {
	var st unix.Stat_t
	if unix.Stat(d.Path(), &st) != nil {
		return false // it is gone
	}
	return slices.ContainsFunc(procs.Openers(filepath.Base(d.Path()), st.Dev, st.Ino), func(pid int) bool { return !isServer(pid) })
}

// isServer says whether a process is a server of ours.
func isServer(pid int) bool {
	self, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && filepath.Base(strings.TrimSuffix(self, " (deleted)")) == ServerProgram
}
