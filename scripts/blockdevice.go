package scripts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/scripts/owned"
	"reflinksr/scripts/scratch"
)

// madeDevice is a block device that a scenario made: a loop device of a file.
type madeDevice struct {
	image string
	path  string // of the device; "" if it has none now
	parts bool   // the kernel is to look for partitions
}

// blockdevice makes a block device, takes it away, or gives it another name.
func (s *script) blockdevice(_ bool, args []string) error {
	if len(args) == 3 && args[1] == "of" && s.devices[args[2]] != nil && s.devices[args[0]] == nil {
		s.devices[args[0]] = &madeDevice{image: s.devices[args[2]].image}
		return s.bindBlockDevice(args[0], s.devices[args[0]])
	}
	if len(args) == 2 && args[1] == "unmounted" && filepath.IsAbs(args[0]) {
		return s.awaitUnmounted(args[0])
	}
	if len(args) < 2 || len(args) > 3 || args[0] != strings.ToUpper(args[0]) || !variable.MatchString("$"+args[0]) {
		return usage("blockdevice")
	}
	name := args[0]
	d := s.devices[name]
	if !slices.Contains([]string{"again", "gone", "unmounted"}, args[1]) {
		return s.makeBlockDevice(args)
	}
	if d == nil || len(args) != 2 {
		return usage("blockdevice")
	}
	if args[1] == "unmounted" {
		return s.awaitUnmounted(d.path)
	}
	old := d.path
	d.path = ""
	if args[1] == "again" {
		// Before it loses the old one: it would be given the same number.
		if err := s.bindBlockDevice(name, d); err != nil {
			return err
		}
	}
	if old == "" {
		return nil
	}
	return s.unbind(d.image, old)
}

// awaitUnmounted waits until nobody has a filesystem of the device or of its partitions mounted. Whoever made a mount
// namespace while the scenario had it mounted has it mounted as well, and when that ends the kernel writes to the device, without
// a process that could be waited for. So the kernel is asked whether the device is claimed.
func (s *script) awaitUnmounted(path string) error {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if err != unix.EBUSY {
			return fmt.Errorf("%s: %w", path, err)
		}
		select {
		case <-s.config.context().Done():
			return fmt.Errorf("%s is still mounted somewhere: %w", path, s.config.stopped())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *script) makeBlockDevice(args []string) error {
	size, err := ParseBytes(args[1])
	if err != nil {
		return err
	}
	name, kind := args[0], ""
	if len(args) > 2 {
		kind = args[2]
	}
	d := &madeDevice{image: filepath.Join(s.work, strings.ToLower(name)+".disk")}
	switch kind {
	case "", "partitions":
		f, err := os.OpenFile(d.image, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		err = f.Truncate(size)
		if kind != "" {
			_, e := f.WriteAt(partitionTable(size), 0)
			err, d.parts = errors.Join(err, e), true
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	default:
		if err := scratch.Format(kind, size, d.image); err != nil {
			return err
		}
	}
	s.devices[name] = d
	return s.bindBlockDevice(name, d)
}

// partitionTable is a master boot record with one partition.
func partitionTable(size int64) []byte {
	b := make([]byte, 512)
	copy(b[446:], []byte{0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0}) // from sector 2048
	sectors := size/512 - 2048
	copy(b[458:], []byte{byte(sectors), byte(sectors >> 8), byte(sectors >> 16), byte(sectors >> 24)})
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (s *script) bindBlockDevice(name string, d *madeDevice) error {
	f, err := os.OpenFile(d.image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "reflinksr-scenario"})
	if err != nil {
		return err
	}
	d.path = device.Path()
	s.setenv(name, d.path)
	if d.parts {
		return findPartitions(d.path)
	}
	return nil
}

// findPartitions has the kernel look for partitions on a loop device.
func findPartitions(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return err
	}
	info.Flags |= unix.LO_FLAGS_PARTSCAN
	return unix.IoctlLoopSetStatus64(int(f.Fd()), info)
}

// unbind takes the loop device at a path from an image.
func (s *script) unbind(image, path string) error {
	devices := s.loopsWhere(func(file string) bool { return file == image })
	return owned.Detach(slices.DeleteFunc(devices, func(l owned.Loop) bool { return l.Path() != path }))
}

// mountPoint is where our plugin mounts the filesystem of an SR that is configured by a
// device.
func mountPoint(uuid string) string { return filepath.Join("/run/sr-mount", uuid) }

// unmountSRs takes away what calls have mounted, or left to be mounted on.
func (s *script) unmountSRs() {
	for _, uuid := range s.uuids {
		for unix.Unmount(mountPoint(uuid), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
		os.Remove(mountPoint(uuid))
		os.Remove("/run/reflinksr/mount/" + uuid + ".json")
		os.Remove("/run/reflinksr/mount/" + uuid + ".lock")
	}
}

// mountsLeft lists what is mounted, or noted to be, for SRs that are not attached.
func (s *script) mountsLeft() (left []string) {
	for _, uuid := range s.uuids {
		if _, err := os.Lstat("/run/reflinksr/sr/" + uuid + ".json"); err == nil {
			continue
		}
		for _, path := range []string{mountPoint(uuid), "/run/reflinksr/mount/" + uuid + ".json"} {
			if _, err := os.Lstat(path); err == nil {
				left = append(left, path)
			}
		}
	}
	return left
}

// mountedSR says whether the filesystem of an SR is mounted where our plugin does that.
func (s *script) mountedSR(not bool, args []string) error {
	if len(args) != 1 {
		return usage("mounted")
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	n := strings.Count(string(data), " "+mountPoint(args[0])+" ")
	switch {
	case n > 0 && not:
		return fmt.Errorf("something is mounted at %s", mountPoint(args[0]))
	case n != 1 && !not:
		return fmt.Errorf("%d filesystems are mounted at %s, want one", n, mountPoint(args[0]))
	}
	return nil
}
