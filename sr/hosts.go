package sr

import (
	"errors"
	"log/slog"
	"os"
	"time"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/participant"
	"reflinksr/internal/uuids"
)

// enlist is SR.enlist for SR.attach, once the SR is recovered.
func enlist(a attached.SR) error {
	s, err := open(a, dirfs.Shared)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.enlist(); err != nil && fault.Classify(err) != fault.ErrReadOnly && fault.Classify(err) != fault.ErrNoSpace {
		return err
	}
	return nil
}

// enlist writes down that this host has the SR attached. Another machine that has it
// attached under the same UUID is refused: the leases of the one would be taken for those of
// a former boot of the other.
func (s *SR) enlist() error {
	if !s.Meta.Filesystem.Clustered() {
		return nil
	}
	me, err := hostinfo.ThisHost()
	if err != nil {
		return err
	}
	if me.Nameless() {
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, s.Path, "SR %s is shared by hosts, and this one has no identity: neither INSTALLATION_UUID in /etc/xensource-inventory nor /etc/machine-id", s.Path),
			"run systemd-machine-id-setup, then attach the SR again")
	}
	lock, err := s.LockLeases()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	hosts, err := s.Control.Mkdir(layout.HostsDir)
	if err != nil {
		return err
	}
	defer hosts.Close()
	there, err := participant.Read(hosts, me.UUID)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	mine := participant.ThisHost(me)
	if err == nil {
		if err := mine.MayReplace(there, s.Path); err != nil {
			return err
		}
		if there.Boot == me.Boot && there.Release == mine.Release {
			return nil
		}
	}
	return s.Replace(hosts, me.UUID, mine.Marshal())
}

// Participants lists the hosts that have the SR attached, if hosts share it. Notes that cannot be read are the error.
func (s *SR) Participants() (all []participant.Host, failed error) {
	hosts, err := s.Control.Sub(layout.HostsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer hosts.Close()
	names, failed := hosts.Names()
	for _, name := range names {
		if !uuids.IsCanonical(name) {
			continue
		}
		m, err := participant.Read(hosts, name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, m)
	}
	return all, failed
}

// delistTimeout bounds how long a server that is away holds up SR.detach.
const delistTimeout = 5 * time.Second

// leaving takes this host off the list, as far as that can be done now. If the SR stays
// attached after all, stay puts it back.
func leaving(a attached.SR) (stay func()) {
	done := make(chan struct{})
	go func() { delist(a); close(done) }()
	select {
	case <-done:
	case <-time.After(delistTimeout):
		slog.Warn("this host stays on the list of those that have the SR attached: its filesystem does not answer", "sr", a.Path)
	}
	return func() {
		if s, err := open(a, dirfs.Shared); err == nil {
			if err := s.enlist(); err != nil {
				slog.Warn("this host is not on the list of those that have the SR attached", "sr", a.Path, "err", err)
			}
			s.Close()
		}
	}
}

func delist(a attached.SR) {
	s, err := verify(a)
	if err != nil {
		return
	}
	defer s.Close()
	me, err := hostinfo.ThisHost()
	if err != nil || !s.Meta.Filesystem.Clustered() {
		return
	}
	hosts, err := s.Control.Sub(layout.HostsDir)
	if err != nil {
		return
	}
	defer hosts.Close()
	if there, err := participant.Read(hosts, me.UUID); err == nil && there.Boot == me.Boot {
		if err := hosts.Remove(me.UUID); err != nil {
			slog.Warn("this host stays on the list of those that have the SR attached", "sr", a.Path, "err", err)
		}
	}
}

// ForgetHost takes a host off the list of those that have the SR attached: it is no more.
// Absent is no error.
func (s *SR) ForgetHost(uuid string) error {
	if !uuids.IsCanonical(uuid) {
		return fault.Errorf(fault.ErrInvalid, uuid, "%q is no host's UUID", fault.Shorten(uuid))
	}
	hosts, err := s.Control.Sub(layout.HostsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer hosts.Close()
	return errors.Join(hosts.Remove(uuid), hosts.Sync())
}

// eraseHosts removes the list with a destroyed SR.
func (s *SR) eraseHosts() error {
	hosts, err := s.Control.Sub(layout.HostsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer hosts.Close()
	names, err := hosts.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if uuids.IsCanonical(name) {
			if err := hosts.RemoveFile(name); err != nil {
				return err
			}
		}
	}
	return s.Control.Rmdir(layout.HostsDir)
}
