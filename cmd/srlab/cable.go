package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"reflinksr/cmd/srlab/internal/machine"
)

// cable connects two machines and is a network of its own: 10.0.N.1 and 10.0.N.2.
type cable struct {
	name string
	ends []string // machines, the first of which was there first
}

// plug gives a machine an end of a cable, and the address that it has there.
func (s *stage) plug(name, cableName string) (machine.Link, string, error) {
	n := slices.IndexFunc(s.cables, func(c *cable) bool { return c.name == cableName })
	if n < 0 {
		n = len(s.cables)
		s.cables = append(s.cables, &cable{name: cableName})
	}
	c := s.cables[n]
	end := slices.Index(c.ends, name)
	if end < 0 {
		end = len(c.ends)
		c.ends = append(c.ends, name)
	}
	if end > 1 {
		return machine.Link{}, "", fmt.Errorf("cable %s has two ends, which %s and %s have", cableName, c.ends[0], c.ends[1])
	}
	return machine.Link{
		Name: cableName, Socket: filepath.Join(s.sockets, cableName+".cable"), Listen: end == 0,
		MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", n+1, end+1),
	}, fmt.Sprintf("10.0.%d.%d/24", n+1, end+1), nil
}

// cable pulls a cable out, or puts it in again.
func (s *stage) cable(_ bool, args []string) error {
	if len(args) != 2 || args[1] != "in" && args[1] != "out" {
		return errors.New("usage: cable NAME in|out")
	}
	for _, c := range s.cables {
		if c.name != args[0] {
			continue
		}
		// One end is enough.
		for _, name := range c.ends {
			if m := s.machines[name]; m != nil {
				return m.Plug(c.name, args[1] == "in")
			}
		}
	}
	return fmt.Errorf("there is no cable %s that a machine has", args[0])
}
