package sr

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"time"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/internal/layout"
	"reflinksr/internal/record"
	"reflinksr/internal/uuids"
)

// Participant is a host that has the SR attached.
type Participant struct {
	Format   int               `json:"format"`
	Host     string            `json:"host"`
	Boot     string            `json:"boot"`
	Hardware hostinfo.Hardware `json:"hardware"`
	Name     string            `json:"name"`              // of the host, for people
	Release  string            `json:"release,omitempty"` // of the program that attached it there; none before there was a second
	Attached time.Time         `json:"attached"`
}

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
	there, err := readParticipant(hosts, me.UUID)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	mine := Participant{Format: layout.Format, Host: me.UUID, Boot: me.Boot, Hardware: hostinfo.ThisHardware(), Attached: time.Now().UTC().Truncate(time.Second), Release: hostinfo.Release}
	mine.Name, _ = os.Hostname()
	if err == nil {
		if err := mine.mayReplace(there, s.Path); err != nil {
			return err
		}
		if there.Boot == me.Boot && there.Release == mine.Release {
			return nil
		}
	}
	data, err := json.Marshal(mine)
	if err != nil {
		return err
	}
	return s.Replace(hosts, me.UUID, data)
}

// mayReplace refuses to take another machine's place.
func (m Participant) mayReplace(there Participant, path string) error {
	if there.Boot == m.Boot {
		return nil
	}
	same, known := m.Hardware.Same(there.Hardware)
	if known && !same {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "SR %s is attached by another machine with this host's UUID %s (%q, since %s), as machines have that were installed from one image", path, m.Host, fault.Shorten(there.Name), there.Attached.Format(time.RFC3339)),
			"give one of them another identity (remove /etc/machine-id and run systemd-machine-id-setup, or install XCP-ng anew), then attach the SR again; if that machine is no more, or was this one before it was rebuilt, run: srctl lease forget %s %s", path, m.Host)
	}
	if !known {
		slog.Warn("a host with this UUID has attached the SR in another boot, and nobody can tell whether that was this machine", "sr", path, "host", m.Host)
	}
	return nil
}

func readParticipant(hosts *dirfs.Dir, uuid string) (m Participant, err error) {
	data, err := hosts.Read(uuid, record.Limit)
	if err != nil {
		return m, err
	}
	return parseParticipant(data, hosts.Join(uuid))
}

func parseParticipant(data []byte, path string) (m Participant, err error) {
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

// Participants lists the hosts that have the SR attached, if hosts share it. Notes that cannot be read are the error.
func (s *SR) Participants() (all []Participant, failed error) {
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
		m, err := readParticipant(hosts, name)
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
	if there, err := readParticipant(hosts, me.UUID); err == nil && there.Boot == me.Boot {
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
