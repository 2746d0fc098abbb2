package probe

import (
	"errors"
	"os"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/layout"
	"reflinksr/internal/source"
	"reflinksr/sr"
)

// Candidate is what the protocol calls probe_result.
type Candidate struct {
	Configuration map[string]string `json:"configuration"`
	Complete      bool              `json:"complete"`
	SR            *sr.Stat          `json:"sr,omitempty"`
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
		out.ExtraInfo["changed_blocks"] = sr.NoExtents
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
	s := &sr.SR{Path: c.Path, Root: root, Meta: m}
	st, err := s.Stat(nil)
	if err != nil {
		return out, err
	}
	if err := s.SameFilesystem(m); err != nil {
		st.Health = [2]string{sr.Unreachable, err.Error()}
	}
	out.Configuration["sr_uuid"] = m.UUID
	out.SR = &st
	return out, nil
}
