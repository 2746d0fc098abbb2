package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"reflinksr/internal/datastore"
	"reflinksr/internal/fault"
	"reflinksr/internal/opennebula"
)

// interactive is a backup that another program reads by OneBEX, OpenNebula's service on the host of the guest.
type interactive struct{ VM, Datastore int }

// run has it read the moment of the disks.
func (i interactive) run(ctx context.Context, moments *datastore.Moment, t task) error {
	remotes, err := remotesHere()
	if err != nil {
		return err
	}
	bex, err := opennebula.NewOneBEX(remotes)
	if err != nil {
		return err
	}
	read := func(ctx context.Context) error {
		if !bex.Running(ctx) {
			if err := startOneBEX(remotes); err != nil {
				return err
			}
			if err := bex.AwaitRunning(ctx); err != nil {
				return err
			}
		}
		return bex.Export(ctx, i.VM, i.Datastore, t.To)
	}
	return moments.Serve(ctx, t.To, t.Data, opennebula.Exports, func(disks []datastore.Served) ([]byte, error) { return exports(t.To, disks) }, read)
}

// exports tells OneBEX of the disks.
func exports(dir string, disks []datastore.Served) ([]byte, error) {
	all := map[string]opennebula.Export{}
	for _, d := range disks {
		e := opennebula.Export{Source: "nbd+unix:///?socket=" + d.Socket, Target: filepath.Join(dir, "disk."+strconv.Itoa(d.Disk)+"."+strconv.Itoa(max(d.Increment, 0))),
			Exporter: "nbd", Format: "raw", Mode: "full", Size: (d.Size + 1<<20 - 1) >> 20}
		if d.Bitmap != "" {
			e.Mode, e.Map = "incremental", "qemu:dirty-bitmap:"+d.Bitmap
		}
		all[strconv.Itoa(d.Disk)] = e
	}
	return json.MarshalIndent(all, "", "  ")
}

// remotesHere is the directory of the drivers on this host, of which this program is one.
func remotesHere() (string, error) {
	path, err := os.Readlink("/proc/self/exe")
	return filepath.Dir(filepath.Dir(filepath.Dir(path))), err
}

// startOneBEX starts OpenNebula's service, which ends by itself when nobody wants anything of it.
func startOneBEX(remotes string) error {
	c := exec.Command("ruby", filepath.Join(remotes, "onebex/onebex-server.rb")) // #nosec G204 -- OpenNebula's own, beside the drivers
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fault.Hint(fault.Errorf(fault.ErrUnavailable, "OneBEX", "OneBEX cannot be started: %w", err), "it is a program in Ruby, which OpenNebula 7.4 brings along")
	}
	return c.Process.Release()
}
