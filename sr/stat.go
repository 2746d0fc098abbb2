package sr

import (
	"errors"
	"os"
	"slices"
	"strings"

	"reflinksr/internal/attached"
	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/reflink"
	"reflinksr/internal/source"
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
	if !s.Meta.Filesystem.MapsExtents() && len(texts) == 0 {
		say(noExtents)
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

// Candidate is what the protocol calls probe_result.
type Candidate struct {
	Configuration map[string]string `json:"configuration"`
	Complete      bool              `json:"complete"`
	SR            *Stat             `json:"sr,omitempty"`
	ExtraInfo     map[string]string `json:"extra_info"`
}

// known is a configuration without what SR.create would refuse.
func known(conf map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range conf {
		if source.OptionHelp[k] != "" {
			out[k] = v
		}
	}
	return out
}

// inspect says what SR.create or SR.attach could do with the open directory of c.
func inspect(root *dirfs.Dir, c source.Configuration, conf map[string]string) (Candidate, error) {
	out := Candidate{Configuration: known(conf), Complete: true, ExtraInfo: map[string]string{}}
	if err := blockdev.DescribeSpace(root, out.ExtraInfo); err != nil {
		return out, err
	}
	if fs := (filesystem.Identity{Type: out.ExtraInfo["filesystem"]}); !fs.MapsExtents() {
		out.ExtraInfo["changed_blocks"] = noExtents
	}
	m, err := layout.ReadMeta(root)
	if errors.Is(err, os.ErrNotExist) {
		if old, err := layout.ReadDestroyed(root); err == nil && old != nil {
			out.ExtraInfo["destroyed_sr"] = old.UUID // its files go when something is made here
		}
		if c.UUID != "" {
			return out, fault.Errorf(fault.ErrSRNotFound, root.Path(), "%s holds no SR, and SR %s was asked for", root.Path(), c.UUID)
		}
		return out, filesystem.Probe(root, c.Options.Attributes())
	}
	if err != nil {
		return out, err
	}
	if c.UUID != "" && c.UUID != m.UUID {
		return out, fault.Errorf(fault.ErrSRNotFound, root.Path(), "%s holds SR %s, not %s", root.Path(), m.UUID, c.UUID)
	}
	c.Complete(m.UUID)
	s := &SR{Path: c.Path, Root: root, Meta: m}
	st, err := s.Stat(nil)
	if err != nil {
		return out, err
	}
	if err := s.SameFilesystem(m); err != nil {
		st.Health = [2]string{Unreachable, err.Error()}
	}
	out.Configuration["sr_uuid"] = m.UUID
	out.SR = &st
	return out, nil
}

// MustMapExtents refuses, with ErrNoExtents, what has to know which blocks files share.
func (s *SR) MustMapExtents() error {
	if s.Meta.Filesystem.MapsExtents() {
		return nil
	}
	return fault.Errorf(fault.ErrNoExtents, s.Path, "SR %s is on NFS: %s", s.Path, noExtents)
}

const noExtents = "NFS cannot tell which blocks two files share: there are no changed blocks, and data cannot be destroyed alone or composed; snapshots, clones and reverts are as anywhere"
