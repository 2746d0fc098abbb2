package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/internal/loop"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
	"reflinksr/sr"
)

// setup is a filesystem, and whether the devices of its SR's disks bypass its page
// cache. That is the plugin's to decide: on btrfs the SR is configured so that it does, or not; on XFS it always does, and
// the device is told otherwise.
type setup struct {
	FS       string `json:"fs"`
	DirectIO bool   `json:"direct_io"`
}

func (s setup) String() string {
	if s.DirectIO {
		return s.FS + ", direct I/O"
	}
	return s.FS + ", buffered"
}

// sectorSize is that of the SR's disks, in bytes.
const sectorSize = 512

func (s setup) configuration(path string) map[string]string {
	c := map[string]string{"path": path, "sector_size": fmt.Sprint(sectorSize)}
	if s.FS == "btrfs" {
		c["datacow"] = "on" // with checksums, and therefore without direct I/O
		if s.DirectIO {
			c["datacow"] = "off"
		}
	}
	return c
}

// bed is an attached SR on a filesystem of its own.
type bed struct {
	setup         setup
	plugin        rig.Plugin
	log           *rig.Log
	dir           string // everything is below it
	fs            *scratch.FS
	configuration map[string]string // with which it is attached
	handle        string
	plugs         []plug // what is attached
	anew          bool   // a disk is attached anew while a snapshot of it is taken
}

// plug is a disk that a domain has.
type plug struct{ uri, domain, device string }

// filesystemSize leaves room for the snapshots that are kept of a disk of so many blocks.
func filesystemSize(blocks int) int64 { return 6<<30 + 3*int64(blocks)*blockSize }

// makeBed makes an SR below dir. The caller closes the bed, also if this fails.
func makeBed(s setup, plugin rig.Plugin, size int64, dir string) (b *bed, err error) {
	b = &bed{setup: s, plugin: plugin, dir: dir}
	if b.fs, err = scratch.Make(s.FS, size, filepath.Join(dir, "mnt")); err != nil {
		return b, err
	}
	uuid, err := sr.NewKey() // an SR's UUID is any
	if err != nil {
		return b, err
	}
	err = b.plugin.Call(smapi.SRCreate{UUID: string(uuid), Configuration: s.configuration(b.fs.Dir), Name: "load"}, &b.configuration)
	if err == nil {
		err = b.plugin.Call(smapi.SRAttach{Configuration: b.configuration}, &b.handle)
	}
	return b, err
}

// close gives everything back, whatever has happened.
func (b *bed) close() error {
	if b.fs == nil {
		return nil
	}
	err := scratch.UnmountBelow(b.fs.Dir + ".in")
	for _, p := range slices.Backward(slices.Clone(b.plugs)) {
		err = errors.Join(err, b.unplug(p))
	}
	if b.handle != "" {
		err = errors.Join(err, b.plugin.Call(smapi.SRDetach{SR: b.handle}, nil))
	}
	// A call that was killed may have left a device that nobody was told of.
	return errors.Join(err, b.releaseDevices(), b.fs.Remove())
}

func (b *bed) releaseDevices() error {
	files, err := os.ReadDir(b.fs.Dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		key, err := sr.ParseKey(file.Name())
		if err != nil {
			continue
		}
		devices, err := b.devices(string(key))
		if err != nil {
			return err
		}
		for _, d := range devices {
			if err := d.Release(); err != nil && !errors.Is(err, loop.ErrGone) {
				return err
			}
		}
	}
	return nil
}

// disk is a volume.
type disk struct {
	Key string
	URI []string
}

// data is the path of a volume's data.
func (b *bed) data(d disk) string { return filepath.Join(b.fs.Dir, d.Key) }

func (b *bed) create(size int64) (d disk, err error) {
	err = b.plugin.Call(smapi.VolumeCreate{SR: b.handle, Name: "disk", Size: size}, &d)
	return d, err
}

// derive calls Volume.snapshot or Volume.clone.
func (b *bed) derive(method string, from disk) (d disk, err error) {
	err = b.plugin.Call(rig.OfVolume(method, b.handle, from.Key), &d)
	return d, err
}

func (b *bed) destroy(d disk) error {
	return b.plugin.Call(smapi.VolumeDestroy{SR: b.handle, Key: d.Key}, nil)
}

// plugIn attaches and activates a disk, and makes sure that its device is of the kind
// that this bed is for.
func (b *bed) plugIn(d disk, domain string, readOnly bool) (plug, error) {
	p := plug{uri: d.URI[0], domain: domain}
	var answer smapi.Backend
	b.plugs = append(b.plugs, p) // an attach that was killed may have made its device
	if err := b.plugin.Call(smapi.DatapathAttach{URI: p.uri, Domain: domain}, &answer); err != nil {
		return p, err
	}
	method := "Datapath.activate"
	if readOnly {
		method = "Datapath.activate_readonly"
	}
	if err := b.plugin.Call(rig.OfDatapath(method, p.uri, domain), nil); err != nil {
		return p, err
	}
	p.device = answer.Path()
	return p, b.checkDevice(d, p)
}

func (b *bed) checkDevice(d disk, p plug) error {
	devices, err := b.devices(d.Key)
	if err != nil {
		return err
	}
	if len(devices) != 1 || devices[0].Path() != p.device {
		return fmt.Errorf("volume %s: Datapath.attach answered %q, and the file's devices are %v", d.Key, p.device, devices)
	}
	if b.setup.FS == "xfs" && !b.setup.DirectIO {
		if err := throughCache(p.device); err != nil {
			return err
		}
	}
	info, err := devices[0].Info()
	if err != nil {
		return err
	}
	// A disk that is attached while a call has it locked gets no new file, with which it would have direct I/O on XFS.
	buffered := !info.DirectIO && b.setup.FS == "xfs" && b.anew
	if info.DirectIO != b.setup.DirectIO && !info.ReadOnly && !buffered || info.SectorSize != sectorSize {
		return fmt.Errorf("%s: %s has direct I/O %v and sectors of %d bytes: that is not what was to be tested", b.setup, p.device, info.DirectIO, info.SectorSize)
	}
	return nil
}

// throughCache has a loop device read and write by way of this host's page cache.
func throughCache(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_DIRECT_IO, 0); err != nil {
		return &os.PathError{Op: "LOOP_SET_DIRECT_IO", Path: device, Err: err}
	}
	return nil
}

// devices lists the loop devices of a volume.
func (b *bed) devices(key string) ([]loop.Device, error) {
	var st unix.Stat_t
	path := filepath.Join(b.fs.Dir, key)
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return loop.Find(st.Dev, st.Ino, key)
}

func (b *bed) unplug(p plug) error {
	err := b.plugin.Call(smapi.DatapathDeactivate{URI: p.uri, Domain: p.domain}, nil)
	if err = errors.Join(err, b.plugin.Call(smapi.DatapathDetach{URI: p.uri, Domain: p.domain}, nil)); err == nil {
		b.plugs = slices.DeleteFunc(b.plugs, func(q plug) bool { return q.uri == p.uri && q.domain == p.domain })
	}
	return err
}
