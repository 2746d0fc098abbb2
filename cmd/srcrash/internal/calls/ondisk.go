package calls

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/explore"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/internal/loop"
	"reflinksr/internal/mount"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
)

// onDisk is SR.create on a blank disk, which it formats without mkfs and grows: a loop device of a file on the filesystem
// under test, so that a power cut takes from it what was not flushed.
type onDisk struct {
	*Host
	uuid, other string // of the SR, and of one that is to be made on what was left of it
	device      *loop.Device
}

const (
	onDiskName = "SR.create/on_disk"
	onDiskKind = "xfs"     // the filesystem under test; one is enough
	onDiskSize = 640 << 20 // bytes: the template's filesystem grows by half a group
)

// Name is what the subject is called.
func (d *onDisk) Name() string { return onDiskName }

// Setup makes the disk.
func (d *onDisk) Setup() error {
	d.uuid, d.other = uuid.NewString(), uuid.NewString()
	return errors.Join(os.WriteFile(d.file(), nil, 0o600), os.Truncate(d.file(), onDiskSize))
}

func (d *onDisk) file() string { return filepath.Join(d.Dir, "disk") }

func (d *onDisk) bind() error {
	f, err := os.OpenFile(d.file(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "srcrash"})
	if err == nil {
		d.device = &device
	}
	return err
}

func (d *onDisk) clearRun() error {
	return errors.Join(os.RemoveAll(rundir.Path), os.RemoveAll(mount.Dir))
}

// Begin connects the disk to a host that knows nothing.
func (d *onDisk) Begin() error { return errors.Join(d.clearRun(), d.bind()) }

// Restart is a boot of the host.
func (d *onDisk) Restart() error { return errors.Join(d.End(), d.clearRun(), d.reboot(), d.bind()) }

// End disconnects the disk.
func (d *onDisk) End() error {
	for _, id := range []string{d.uuid, d.other} {
		for unix.Unmount(mount.Point(id), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
	}
	if d.device == nil {
		return nil
	}
	_, err := d.device.Detach()
	d.device = nil
	return err
}

func (d *onDisk) create(id string) smapi.Request {
	return smapi.SRCreate{UUID: id, Configuration: map[string]string{"device": d.device.Path(), "mkfs": "template"}}
}

// Command is the creation; what counts is what is done to the disk, in the filesystem on it, and in /run.
func (d *onDisk) Command() (trace.Command, []string) {
	c := d.Plugin.Command(d.create(d.uuid))
	return trace.Command{Path: c.Path, Args: []string{"--json"}, Stdin: c.Request}, []string{d.device.Path(), rundir.Path}
}

// Recovery is the creation again: nothing else is to be done after one that was interrupted.
func (d *onDisk) Recovery() trace.Command {
	c, _ := d.Command()
	return c
}

// Refused says that it is not.
func (d *onDisk) Refused() bool { return false }

// Alone says that each run has a filesystem of its own.
func (d *onDisk) Alone() bool { return true }

// Learn learns nothing: what must be is the same for each run.
func (d *onDisk) Learn(explore.Ending) error { return nil }

// Plain replaces what differs from run to run.
func (d *onDisk) Plain(call string) string {
	call = strings.ReplaceAll(call, rundir.Path, "run")
	if d.device != nil {
		call = strings.ReplaceAll(call, d.device.Path(), "<disk>")
	}
	return anyKey.ReplaceAllString(strings.ReplaceAll(call, d.uuid, "<sr>"), "<new>")
}

// Judge demands that what was answered is an SR, which can be attached; and that whatever else was left can be made one, or
// another, by the same call, with nothing to be wiped. It is on a whole filesystem as large as the disk, which is
// blank in the end.
func (d *onDisk) Judge(e explore.Ending) (wrong []string) {
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !e.Ended || !e.Result.Succeeded() || e.Recovered {
		// Another SR takes what was left, unless that is an SR already.
		if e.Fault != nil && e.Fault.N%2 == 1 {
			refused := d.Plugin.Call(d.create(d.other), nil)
			if refused == nil {
				wrong = append(wrong, d.use(d.other)...)
			} else if err := d.attach(d.uuid); err != nil {
				add("another SR cannot be made (%v), and this one is not there: %v", refused, err)
			} else if err := d.detach(d.uuid); err != nil {
				add("%v", err)
			}
		}
		if err := d.Plugin.Call(d.create(d.uuid), nil); err != nil {
			add("made again: %v", err)
			return wrong
		}
	}
	return append(wrong, d.use(d.uuid)...)
}

func (d *onDisk) attach(id string) error {
	return d.Plugin.Call(smapi.SRAttach{Configuration: map[string]string{"device": d.device.Path(), "sr_uuid": id}}, nil)
}

func (d *onDisk) handle(id string) string { return "file://" + mount.Point(id) + "?uuid=" + id }

func (d *onDisk) detach(id string) error { return d.Plugin.Call(smapi.SRDetach{SR: d.handle(id)}, nil) }

// use attaches the SR, looks at it, and destroys it.
func (d *onDisk) use(id string) (wrong []string) {
	check := func(err error) {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if err := d.attach(id); err != nil {
		return []string{err.Error()}
	}
	var st smapi.SRStatus
	check(d.Plugin.Call(smapi.SRStat{SR: d.handle(id)}, &st))
	if st.TotalSpace < onDiskSize-80<<20 || st.TotalSpace > onDiskSize {
		wrong = append(wrong, fmt.Sprintf("the SR has room for %d bytes on a disk of %d", st.TotalSpace, onDiskSize))
	}
	check(d.detach(id))
	if out, err := exec.Command("xfs_repair", "-n", d.device.Path()).CombinedOutput(); !errors.Is(err, exec.ErrNotFound) && (err != nil || bytes.Contains(out, []byte("would"))) {
		wrong = append(wrong, fmt.Sprintf("xfs_repair: %v: %s", err, bytes.Join(bytes.Fields(out), []byte(" "))))
	}
	check(d.attach(id))
	check(d.Plugin.Call(smapi.SRDestroy{SR: d.handle(id)}, nil))
	check(d.detach(id))
	begin := make([]byte, 4096)
	f, err := os.Open(d.device.Path())
	if err == nil {
		_, err = f.ReadAt(begin, 0)
		f.Close()
	}
	check(err)
	if !bytes.Equal(begin, make([]byte, len(begin))) {
		wrong = append(wrong, "the disk of the destroyed SR is not blank")
	}
	return wrong
}

// Spoil damages the disk.
func (d *onDisk) Spoil(i int) (string, error) {
	ways := []struct {
		how    string
		offset int64
		data   []byte
	}{
		{"the second superblock is lost", 256 << 20, make([]byte, 512)},
		{"the superblock is that of an unfinished filesystem", 126, []byte{1}},
	}
	if i >= len(ways) {
		return "", nil
	}
	f, err := os.OpenFile(d.device.Path(), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.WriteAt(ways[i].data, ways[i].offset)
	return ways[i].how, errors.Join(err, f.Sync())
}
