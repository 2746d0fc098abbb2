package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"reflinksr/internal/repository"
)

// forgetHost breaks every lease of a host that is no more.
func forgetHost(ctx context.Context, args []string, out io.Writer) error {
	args, err := parse("lease", args, 2, 2, noFlags)
	if err != nil {
		return err
	}
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	broken, err := repository.ForgetHost(ctx, path, strings.ToLower(args[1]))
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

func leases(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "forget" {
		return forgetHost(ctx, args[1:], out)
	}
	if len(args) > 0 && args[0] == "break" {
		args, err := parse("lease", args[1:], 2, 2, noFlags)
		if err != nil {
			return err
		}
		v, err := volumeAt(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		holders, damaged, err := v.BreakLease(ctx)
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
	sr, err := at(ctx, args[0])
	if err != nil {
		return err
	}
	active, err := sr.Leases(ctx)
	for _, a := range active {
		for _, h := range a.Holders {
			fmt.Fprintf(out, "%s: %s\n", a.Key, h)
		}
	}
	return err
}

func relocate(ctx context.Context, args []string, out io.Writer) error {
	args, err := parse("rehome", args, 1, 1, noFlags)
	if err != nil {
		return err
	}
	from, to, err := repository.Relocate(ctx, args[0])
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
