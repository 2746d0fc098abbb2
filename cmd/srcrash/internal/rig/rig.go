// Package rig is what the commands of srcrash stand on: an installed plugin whose
// calls are real processes, and a host of its own for them.
package rig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/internal/plugin"
	"reflinksr/cmd/internal/srnbd"
	"reflinksr/internal/repository"
	"reflinksr/internal/rundir"
	"reflinksr/scripts/plugindir"
	"reflinksr/scripts/scratch"
)

// Plugin is an installed plugin.
type Plugin struct {
	Volume   string // directory of the volume plugin
	Datapath string // directory of the datapath plugin
}

// In is the plugin that is installed below root, as reflinksr install makes it.
func In(root string) (p Plugin) {
	p.Volume, p.Datapath = plugin.Directories(root)
	return p
}

// Install installs the running program as the plugin below root, and as what serves disks that migrate. Its main must begin with ActAsInstalled.
func Install(root string) (Plugin, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return Plugin{}, err
	}
	return In(root), plugin.InstallWith(root, self, io.Discard)
}

// ActAsInstalled does what this process was started for, and returns its exit status, if it was as a call of the plugin, or to serve a disk.
func ActAsInstalled() (status int, was bool) {
	switch {
	case os.Args[0] == repository.ServerProgram:
		return srnbd.Main(), true
	case plugin.IsCall(os.Args[0]):
		return plugin.Main(), true
	}
	return 0, false
}

// InstallFrom installs the program at path below root.
func InstallFrom(path, root string) (Plugin, error) {
	if out, err := exec.Command(path, "install", "--root", root).CombinedOutput(); err != nil {
		return Plugin{}, fmt.Errorf("%s install: %w: %s", path, err, bytes.TrimSpace(out))
	}
	return In(root), nil
}

// At is the plugin whose directories a tester has named, each itself or by the one above
// it: both, or neither, which is no plugin.
func At(volume, datapath string) (p Plugin, err error) {
	if volume == "" && datapath == "" {
		return p, nil
	}
	if volume == "" || datapath == "" {
		return p, errors.New("-volume and -datapath go together")
	}
	ours := In("")
	if p.Volume, err = located(plugindir.Volume, volume, ours.Volume); err == nil {
		p.Datapath, err = located(plugindir.Datapath, datapath, ours.Datapath)
	}
	return p, err
}

// located is absolute: calls are made from other directories.
func located(kind plugindir.Kind, dir, ours string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return plugindir.One(kind, dir, filepath.Base(ours))
}

// RunTests is TestMain's work for a package whose test binary installs itself as the
// plugin and mounts filesystems: it runs m, a *testing.M, and returns the exit status.
func RunTests(m interface{ Run() int }) int {
	if status, was := ActAsInstalled(); was {
		return status
	}
	// Each call of a race-detecting build would wait a second before it ends.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	if status, again := scratch.Isolate(); again {
		return status
	}
	return m.Run()
}

// PrivateHost gives this process, which must be in a mount namespace of its own
// (scratch.Isolate), and its children what the plugin keeps about a host, empty.
func PrivateHost() error {
	return unix.Mount("tmpfs", filepath.Dir(rundir.Path), "tmpfs", 0, "mode=755")
}
