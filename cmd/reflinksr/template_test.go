package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/internal/loop"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/sr"
)

// newDisk is a disk on which an SR is made.
type newDisk struct {
	size   int64 // bytes
	sector int   // bytes
	mkfs   string
	groups int // that the filesystem is to have; 0: as mkfs.xfs likes
}

// Disks of every size that there is a template for, the ends of what each is for among them, with sectors of either size:
// the template's filesystem is grown over all of it.
var newDisks = []newDisk{
	{5 << 40, 512, "template", 80}, {600 << 20, 4096, "template", 3}, {10 << 30, 512, "program", 0},
	{512 << 20, 512, "template", 2}, {512<<20 + 4096*63, 512, "template", 2}, {8<<30 - 512, 512, "template", 32}, {8 << 30, 4096, "template", 2},
	{10 << 30, 512, "template", 3}, {10 << 30, 4096, "program", 0}, {128<<30 - 4096, 4096, "template", 32}, {128 << 30, 512, "template", 2}, {1 << 40, 4096, "template", 16},
	{16 << 40, 512, "template", 256}, {16 << 40, 4096, "template", 256},
}

// An SR on a new disk is on an XFS that Linux 4.19 can mount, that is as large as the disk, and that xfs_repair has nothing
// to say about, when it is new and when it has been used.
func TestSROnNewDisks(t *testing.T) {
	tests.Root(t, "mounting filesystems and attaching loop devices")
	for _, program := range []string{"mkfs.xfs", "xfs_db", "xfs_repair"} {
		if _, err := exec.LookPath(program); err != nil {
			tests.Skip(t, program+" is not installed")
		}
	}
	if err := scratch.Available("xfs"); err != nil {
		tests.Skip(t, err)
	}
	root := install(t)
	// Files of any size can be here, whatever the machine has.
	room, err := scratch.Make("xfs", 4<<30, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer room.Remove()
	due := newDisks[:1]
	if tests.All() {
		due = slices.Concat(due, tests.Due(newDisks[1:], 6))
	}
	for _, d := range due {
		t.Run(fmt.Sprintf("%s %d MiB of %d", d.mkfs, d.size>>20, d.sector), func(t *testing.T) { d.test(t, root, room.Dir) })
	}
}

func (d newDisk) test(t *testing.T, root, dir string) {
	file, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := file.Truncate(d.size); err != nil {
		t.Fatal(err)
	}
	device, err := loop.Attach(loop.Config{File: file, SectorSize: d.sector, Name: "reflinksr-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Detach()
	p := calls(root, "test")
	call := func(r smapi.Request, out any) {
		t.Helper()
		if err := p.Do(context.Background(), r, out); err != nil {
			t.Fatal(err)
		}
	}
	id, err := sr.NewKey() // an SR's UUID is any
	if err != nil {
		t.Fatal(err)
	}
	var conf map[string]string
	call(smapi.SRCreate{UUID: string(id), Configuration: map[string]string{"device": device.Path(), "mkfs": d.mkfs}}, &conf)
	d.check(t, device.Path())

	var handle string
	var disk, snapshot struct{ Key string }
	call(smapi.SRAttach{Configuration: conf}, &handle)
	detached := false
	defer func() {
		if !detached {
			call(smapi.SRDetach{SR: handle}, nil)
		}
	}()
	var stat struct {
		TotalSpace int64 `json:"total_space"`
	}
	call(smapi.SRStat{SR: handle}, &stat)
	if least := d.size - d.size/8 - 64<<20; stat.TotalSpace < least || stat.TotalSpace > d.size {
		t.Errorf("there is room for %d bytes on a disk of %d", stat.TotalSpace, d.size)
	}
	call(smapi.VolumeCreate{SR: handle, Name: "disk", Size: 16 << 20}, &disk)
	call(smapi.VolumeSnapshot{SR: handle, Key: disk.Key}, &snapshot)
	call(smapi.VolumeDestroy{SR: handle, Key: disk.Key}, nil)
	call(smapi.SRDetach{SR: handle}, nil)
	detached = true
	d.check(t, device.Path())
}

// check looks at the filesystem without mounting it.
func (d newDisk) check(t *testing.T, path string) {
	t.Helper()
	out, err := exec.Command("xfs_db", "-r", "-c", "sb 0", "-c", "p features_compat features_ro_compat features_incompat dblocks agcount agblocks sectsize inprogress", path).CombinedOutput()
	values := map[string]int64{}
	for line := range strings.Lines(string(out)) {
		var name string
		var value int64
		if _, err := fmt.Sscanf(line, "%s = %v", &name, &value); err == nil {
			values[name] = value
		}
	}
	if err != nil || len(values) != 8 {
		t.Fatalf("%v: %s", err, out)
	}
	const knownRO, knownIncompat = 0x1 | 0x2 | 0x4, 0x1 | 0x2 | 0x4 // to Linux 4.19
	if values["features_compat"] != 0 || values["features_ro_compat"]&^knownRO != 0 || values["features_incompat"]&^knownIncompat != 0 {
		t.Errorf("Linux 4.19 cannot mount it: %v", values)
	}
	if missing := d.size/4096 - values["dblocks"]; missing < 0 || missing > 64 || values["inprogress"] != 0 || values["sectsize"] < int64(d.sector) {
		t.Errorf("a disk of %d bytes with sectors of %d has %v", d.size, d.sector, values)
	}
	if d.groups > 0 && values["agcount"] != int64(d.groups) {
		t.Errorf("it has %d groups of %d blocks, and is to have %d", values["agcount"], values["agblocks"], d.groups)
	}
	if out, err := exec.Command("xfs_repair", "-n", path).CombinedOutput(); err != nil || strings.Contains(string(out), "would") {
		t.Errorf("xfs_repair: %v: %s", err, out)
	}
}
