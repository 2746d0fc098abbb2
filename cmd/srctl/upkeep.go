package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/datapath/lease"
	"reflinksr/internal/fault"
	"reflinksr/internal/hostinfo"
	"reflinksr/sr"
	"reflinksr/volume"
)

// forgetHost breaks every lease of a host that is no more.
func forgetHost(args []string, out io.Writer) error {
	args, err := parse("lease", args, 2, 2, noFlags)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	broken, err := volume.ForgetHost(path, strings.ToLower(args[1]))
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

func leases(args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "forget" {
		return forgetHost(args[1:], out)
	}
	if len(args) > 0 && args[0] == "break" {
		args, err := parse("lease", args[1:], 2, 2, noFlags)
		if err != nil {
			return err
		}
		handle, err := handleOf(args[0])
		if err != nil {
			return err
		}
		holders, damaged, err := volume.BreakLease(handle, args[1])
		for _, h := range holders {
			fmt.Fprintf(out, "%s: broken: %s\n", args[1], h)
		}
		if damaged {
			fmt.Fprintf(out, "%s: broken: a lease that could not be read, so nobody knows who had it\n", args[1])
		} else if err == nil && len(holders) == 0 {
			fmt.Fprintf(out, "%s: no other host has it active; what this host has active ends with Datapath.deactivate\n", args[1])
		}
		return err
	}
	args, err := parse("lease", args, 1, 1, noFlags)
	if err != nil {
		return err
	}
	s, err := openSR(args[0])
	if err != nil {
		return err
	}
	defer s.Close()
	me, err := hostinfo.ThisHost()
	if err != nil {
		return err
	}
	keys, err := volume.Keys(s)
	if err != nil {
		return err
	}
	var failed error
	for _, key := range keys {
		l, err := lease.Read(s, key, me)
		if errors.Is(err, fault.ErrVolumeNotFound) {
			continue // destroyed meanwhile
		}
		failed = errors.Join(failed, err)
		for _, h := range l.Holders {
			fmt.Fprintf(out, "%s: %s\n", key, h)
		}
	}
	return failed
}

func relocate(args []string, out io.Writer) error {
	args, err := parse("rehome", args, 1, 1, noFlags)
	if err != nil {
		return err
	}
	from, to, err := sr.Relocate(args[0])
	if err != nil {
		return err
	}
	if from == to {
		fmt.Fprintf(out, "%s is at home: %s %s\n", args[0], to.Type, to.UUID)
		return nil
	}
	fmt.Fprintf(out, "%s: was on %s %s, is now at home on %s %s\n", args[0], from.Type, from.UUID, to.Type, to.UUID)
	return nil
}
