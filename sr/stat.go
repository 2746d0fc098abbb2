package sr

import (
	"errors"
	"slices"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/reflink"
)

// Stat is what the protocol calls sr_stat.
type Stat struct {
	SR          string    `json:"sr"`
	UUID        string    `json:"uuid,omitempty"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	FreeSpace   int64     `json:"free_space"`  // bytes
	TotalSpace  int64     `json:"total_space"` // bytes
	Datasources []string  `json:"datasources"`
	Clustered   bool      `json:"clustered"`
	Health      [2]string `json:"health"` // state and text
}

// The states of Stat.Health that we report.
const (
	Healthy     = "Healthy"
	Unreachable = "Unreachable"
)

// StatSR describes an attached SR. An SR that is not where it was attached is
// described as well, as Unreachable. warn may add a text to a healthy one.
func StatSR(handle string, warn func(*SR) string) (Stat, error) {
	a, err := attached.Find(handle)
	if err != nil {
		return Stat{}, err
	}
	s, err := verify(a)
	if err != nil {
		return Stat{
			SR: handle, UUID: a.UUID, Name: a.Name, Description: a.Description,
			Datasources: []string{}, Health: [2]string{Unreachable, err.Error()},
		}, nil
	}
	defer s.Close()
	return s.Stat(warn)
}

// Stat describes an open SR.
func (s *SR) Stat(warn func(*SR) string) (Stat, error) {
	room, err := filesystem.RoomOf(s.Root)
	st := Stat{
		SR: s.Handle(), UUID: s.Meta.UUID, Name: s.Meta.Name, Description: s.Meta.Description,
		FreeSpace: room.Free, TotalSpace: room.Total, Datasources: []string{},
		Clustered: s.Meta.Filesystem.Clustered(), Health: [2]string{Healthy, ""},
	}
	var texts []string
	say := func(text string) {
		if text != "" {
			texts = append(texts, text)
		}
	}
	readOnly, remedy, e := filesystem.ReadOnly(s.Root)
	switch {
	case readOnly != "":
		// It can be scanned and read, so it is not unhealthy to the toolstack.
		say(readOnly + ": volumes can be read but not changed: " + remedy)
	case err == nil:
		if fixed := s.Fixed(); len(fixed) > 0 {
			list := strings.Join(fixed, " ")
			say("nothing can be made or removed in " + list + ", which has an attribute against that: chattr -i -a " + list)
		}
		if fixed, err := filesystem.Fixed(s.Root, layout.MarkerFile); err == nil && fixed {
			path := s.Root.Join(layout.MarkerFile)
			say(path + " cannot be changed, nor the SR's name, for it has an attribute against that: chattr -i -a " + path)
		}
		say(room.Warning())
		if warn != nil {
			say(warn(s))
		}
	}
	if len(texts) == 0 { // what is as it is gives way to what can be done something about
		if !s.Meta.Filesystem.MapsExtents() {
			say(NoExtents)
		}
		newer, e := filesystem.NewerFeatures(s.Root)
		if err == nil {
			err = e
		}
		say(filesystem.OlderHosts(newer))
	}
	st.Health[1] = strings.Join(texts, "; ")
	return st, errors.Join(err, e)
}

// Fixed lists the SR's directories that have an attribute that keeps files from being
// made, renamed or removed in them.
func (s *SR) Fixed() (names []string) {
	dirs := []*dirfs.Dir{s.Root, s.Control}
	for _, dir := range s.Subdirs() {
		dirs = append(dirs, *dir)
	}
	for _, d := range dirs {
		if d == nil {
			continue
		}
		if fixed, err := reflink.Immutable(d.File()); err == nil && fixed {
			names = append(names, d.Path())
		}
	}
	slices.Sort(names)
	return names
}

// MustMapExtents refuses, with ErrNoExtents, what has to know which blocks files share.
func (s *SR) MustMapExtents() error {
	if s.Meta.Filesystem.MapsExtents() {
		return nil
	}
	return fault.Errorf(fault.ErrNoExtents, s.Path, "SR %s is on NFS: %s", s.Path, NoExtents)
}

// NoExtents says what an SR on NFS cannot do, and why.
const NoExtents = "NFS cannot tell which blocks two files share: there are no changed blocks, and data cannot be destroyed alone or composed; snapshots, clones and reverts are as anywhere"
