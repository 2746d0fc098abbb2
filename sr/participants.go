package sr

import (
	"errors"
	"os"
	"time"

	"reflinksr/internal/layout"
	"reflinksr/internal/uuids"
)

// Participant is a host that has the SR attached.
type Participant struct {
	Host     string // its UUID
	Name     string // for people
	Release  string // of the program there; "" before hosts told
	Attached time.Time
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
		all = append(all, Participant{m.Host, m.Name, m.Release, m.Attached})
	}
	return all, failed
}
