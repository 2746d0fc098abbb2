// Package cgroup takes a process out of the control group of the service that started it: a service that is stopped or
// started anew ends what is in its group.
//
// Only the hierarchies by which systemd does that are meant: of control groups version 2, and the named one of version 1
// (XCP-ng 8.3). Limits of processor time, memory and the like stay as they are.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/mountinfo"
)

// hierarchies are where the kernel tells of a process's group, in /proc/PID/cgroup, by what a line has between its colons.
var hierarchies = map[string]func(mountinfo.Entry) bool{
	"":             func(e mountinfo.Entry) bool { return e.Kind == "cgroup2" },
	"name=systemd": func(e mountinfo.Entry) bool { return e.Kind == "cgroup" && filepath.Base(e.Path) == "systemd" },
}

// Leave moves this process into a group of that name, which is made directly below the root, and is nobody's. It does nothing in a
// hierarchy where the process is in no group. back moves it to the root, and removes the group if nobody else is in it.
func Leave(name string) (back func(), err error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return func() {}, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return func() {}, err
	}
	var left []string
	for _, root := range inside(string(groups), mountinfo.Parse(string(mounts))) {
		dir := filepath.Join(root, name)
		e := os.Mkdir(dir, 0o755) // #nosec G301 -- as all groups are
		if e == nil || errors.Is(e, os.ErrExist) {
			e = enter(dir)
		}
		if e != nil {
			unix.Rmdir(dir) //nolint:errcheck // it has somebody in it, or was not made
			err = errors.Join(err, fmt.Errorf("leaving the control group of whoever started this process: %w", e))
			continue
		}
		left = append(left, root)
	}
	return func() {
		for _, root := range left {
			if enter(root) == nil {
				unix.Rmdir(filepath.Join(root, name)) //nolint:errcheck // others are in it
			}
		}
	}, err
}

// enter moves this process into a group.
func enter(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// inside lists the roots of the hierarchies in which a process is in a group. groups is its /proc/PID/cgroup.
func inside(groups string, mounts []mountinfo.Entry) (roots []string) {
	for line := range strings.Lines(groups) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		hierarchy, group, ok := strings.Cut(rest, ":")
		is := hierarchies[hierarchy]
		if !ok || is == nil || group == "/" {
			continue
		}
		for _, m := range mounts {
			if is(m) && m.Root == "/" {
				roots = append(roots, m.Path)
				break
			}
		}
	}
	return roots
}
