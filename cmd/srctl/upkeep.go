package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/internal/repository"

	"github.com/spf13/cobra"
)

func (s *session) lease() *cobra.Command {
	c := s.takes(s.answersJSON(command("lease SR", "list who has volumes active; end that of a dead host",
		`lease lists the volumes of an SR that somebody has active, and who. Its commands end
what a host that has died has active, on paper: stop that host first.`,
		`  srctl lease /srv/tank`, 1, 1, s.listLeases)), anSR)
	c.AddCommand(
		s.takes(s.answersJSON(command("break SR VOLUME", "end the use of a volume by other hosts",
			`break ends the use of a volume by other hosts, on paper: for when a host has died. One
that is still alive goes on writing: stop it first.`,
			`  srctl lease break tank $KEY`, 2, 2, s.breakLease)), anSR, aVolume),
		s.takes(s.answersJSON(command("forget SR HOST", "end the use of all volumes by a host that is no more",
			`forget ends the use of all volumes by a host that is no more, and forgets that it has the
SR attached. The SR need not be attached here. HOST is the host's UUID, as srctl lease
tells it.`,
			`  srctl lease forget /srv/tank $HOST`, 2, 2, s.forgetHost)), anSR),
	)
	return c
}

// forgetHost breaks every lease of a host that is no more.
func (s *session) forgetHost(ctx context.Context, args []string) error {
	out := s.out
	path, err := s.directoryOf(ctx, args[0])
	if err != nil {
		return err
	}
	if err := s.sure("end the use of all volumes of the SR at %s by the host %s, and corrupt them if that host still writes", oneLine(path), oneLine(args[1])); err != nil {
		return err
	}
	broken, err := repository.ForgetHost(ctx, path, strings.ToLower(args[1]))
	if s.json {
		all := []activeVolume{}
		for _, key := range slices.Sorted(maps.Keys(broken)) {
			all = append(all, s.active(key, broken[key]))
		}
		return errors.Join(err, printJSON(out, all))
	}
	for _, key := range slices.Sorted(maps.Keys(broken)) {
		for _, h := range broken[key] {
			fmt.Fprintf(out, "%s: broken: %s\n", key, h)
		}
	}
	if err == nil && len(broken) == 0 {
		fmt.Fprintf(out, "%s: host %s has nothing active\n", path, args[1])
	}
	return err
}

// activeVolume is a volume and who has it active, for programs.
type activeVolume struct {
	Key     repository.Key      `json:"key"`
	Path    string              `json:"path"`
	Holders []repository.Holder `json:"holders"`
}

func (s *session) active(key repository.Key, holders []repository.Holder) activeVolume {
	if holders == nil {
		holders = []repository.Holder{}
	}
	return activeVolume{key, filepath.Join(s.path, string(key)), holders}
}

func (s *session) breakLease(ctx context.Context, args []string) error {
	out := s.out
	v, err := s.volumeAt(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	if err := s.sure("end the use of volume %s by other hosts, and corrupt it if one of them still writes", v.Key); err != nil {
		return err
	}
	holders, damaged, err := v.BreakLease(ctx)
	if s.json {
		return errors.Join(err, printJSON(out, struct {
			activeVolume
			Damaged bool `json:"damaged"` // nobody knows who had it
		}{s.active(v.Key, holders), damaged}))
	}
	for _, h := range holders {
		fmt.Fprintf(out, "%s: broken: %s\n", v.Key, h)
	}
	if damaged {
		fmt.Fprintf(out, "%s: broken: a lease that could not be read, so nobody knows who had it\n", v.Key)
	} else if err == nil && len(holders) == 0 {
		fmt.Fprintf(out, "%s: no other host has it active; what this host has active ends with Datapath.deactivate\n", v.Key)
	}
	return err
}

func (s *session) listLeases(ctx context.Context, args []string) error {
	out := s.out
	sr, err := s.at(ctx, args[0])
	if err != nil {
		return err
	}
	active, err := sr.Leases(ctx)
	if s.json {
		all := []activeVolume{}
		for _, a := range active {
			all = append(all, s.active(a.Key, a.Holders))
		}
		return errors.Join(err, printJSON(out, all))
	}
	for _, a := range active {
		for _, h := range a.Holders {
			fmt.Fprintf(out, "%s: %s\n", a.Key, h)
		}
	}
	return err
}

func (s *session) rehome() *cobra.Command {
	return s.takes(s.answersJSON(command("rehome PATH", "accept that an SR was moved to another filesystem",
		`rehome tells an SR that the filesystem that it is on now is the right one: after its
directory was copied, or restored from a backup. It must be detached.`,
		`  srctl rehome /srv/tank`, 1, 1, s.relocate)), aFile)
}

func (s *session) relocate(ctx context.Context, args []string) error {
	out := s.out
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	from, to, err := repository.Relocate(ctx, path)
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(out, map[string]any{"path": path, "from": from, "to": to})
	}
	if from == to {
		fmt.Fprintf(out, "%s is at home: %s %s\n", args[0], to.Type, to.UUID)
		return nil
	}
	fmt.Fprintf(out, "%s: was on %s %s, is now at home on %s %s\n", args[0], from.Type, from.UUID, to.Type, to.UUID)
	return nil
}
