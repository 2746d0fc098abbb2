package scratch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/internal/xfs"
)

// FS is a mounted throw-away filesystem.
type FS struct {
	Kind  string // one of Kinds
	Dir   string // where it is mounted
	image string
}

// mkfs are the commands that format an image of each kind; -q and -f: no questions.
var mkfs = map[string][]string{
	"btrfs":         {"mkfs.btrfs", "-q", "-f"},
	"xfs":           {"mkfs.xfs", "-q", "-f"},
	"xfs-noreflink": {"mkfs.xfs", "-q", "-f", "-m", "reflink=0"},
	"btrfs-4k":      {"mkfs.btrfs", "-q", "-f"},
	"xfs-4k":        {"mkfs.xfs", "-q", "-f", "-s", "size=4096"},
	"ext4":          {"mkfs.ext4", "-q", "-F"},
}

// argsOf are the arguments of the program at path that makes a filesystem of that kind; an XFS becomes one that every host of SRs can mount.
func argsOf(kind, path string) []string {
	args := slices.Clone(mkfs[kind][1:])
	if kind == "xfs" || kind == "xfs-4k" {
		usage, _ := exec.Command(path).CombinedOutput() // without arguments it tells, and fails
		options, _ := xfs.MkfsOptions(string(usage))
		args = append(args, options...)
	}
	return args
}

// Kinds lists the kinds of filesystem that can be made; …-4k is on a disk with sectors
// of 4096 bytes.
func Kinds() []string {
	return []string{"btrfs", "xfs", "xfs-noreflink", "btrfs-4k", "xfs-4k", "ext4", "tmpfs"}
}

// Available says why a kind cannot be made here, or nil.
func Available(kind string) error {
	if kind == "tmpfs" {
		return nil
	}
	command, ok := mkfs[kind]
	if !ok {
		return fmt.Errorf("no filesystem of kind %q; there are %s", kind, strings.Join(Kinds(), ", "))
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	base, _, _ := strings.Cut(kind, "-")
	if !strings.Contains(string(known), "\t"+base+"\n") {
		return fmt.Errorf("this kernel has no %s (modprobe %s?)", base, base)
	}
	if _, err := tool(command[0]); err != nil && !shipped(kind) {
		return fmt.Errorf("%s is not installed", command[0])
	}
	return nil
}

// tool finds a program also where ordinary users do not look.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// Make makes a filesystem of size bytes and mounts it at dir, which it creates.
// The image is dir with ".img". Needs root.
func Make(kind string, size int64, dir string) (*FS, error) {
	if err := Available(kind); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fs := &FS{Kind: kind, Dir: dir}
	if kind == "tmpfs" {
		return fs, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size))
	}
	fs.image = dir + ".img"
	grow, err := fs.format(size)
	if err == nil {
		err = fs.Mount()
	}
	if err == nil && grow {
		if err = growMounted(kind, dir, size); err != nil {
			err = errors.Join(fmt.Errorf("growing %s: %w", dir, err), fs.Unmount())
		}
	}
	if err != nil {
		os.Remove(fs.image)
		return nil, fmt.Errorf("making %s at %s: %w", kind, dir, err)
	}
	return fs, nil
}

// format makes the image, and says whether it must be grown after mounting.
func (fs *FS) format(size int64) (grow bool, err error) {
	path, err := tool(mkfs[fs.Kind][0])
	if err != nil {
		return true, unpack(fs.Kind, fs.image, size)
	}
	f, err := os.OpenFile(fs.image, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return false, err
	}
	args := argsOf(fs.Kind, path)
	for try := 0; ; try++ {
		out, err := exec.Command(path, append(args, fs.image)...).CombinedOutput()
		if err == nil {
			return false, nil
		}
		// mkfs.btrfs looks whether any loop device has the image, and fails over one of somebody
		// else's that goes meanwhile.
		if try == 10 || !strings.Contains(string(out), "cannot check mount status") {
			return false, fmt.Errorf("%s: %v: %s", path, err, strings.TrimSpace(string(out)))
		}
	}
}

// Format makes the image of an unmounted filesystem of size bytes at path. It needs mkfs.
func Format(kind string, size int64, path string) error {
	if err := Available(kind); err != nil {
		return err
	}
	fs := &FS{Kind: kind, image: path}
	if _, err := tool(mkfs[kind][0]); err != nil {
		return err
	}
	_, err := fs.format(size)
	return err
}

// Mount mounts the image again after Unmount.
func (fs *FS) Mount() error {
	f, err := os.OpenFile(fs.image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	base, variant, _ := strings.Cut(fs.Kind, "-")
	options := ""
	if base == "xfs" {
		options = "nouuid" // copies of the shipped image share theirs
	}
	if done, err := fs.mountAgain(f, base, options); done || err != nil {
		return err
	}
	config := loop.Config{File: f, SectorSize: 512, Name: "reflinksr-scratch"}
	if variant == "4k" {
		config.SectorSize = 4096
	}
	d, err := loop.Attach(config)
	if err != nil {
		return err
	}
	return MountDevice(d, fs.Dir, base, 0, options)
}

// mountAgain mounts the device that the image still has, and says whether there was one: an
// unmounted filesystem lives on while a process of anybody's has a copy of the mount. From a
// second device it would be a second filesystem over the same blocks, on btrfs with another
// UUID (Linux 6.7).
func (fs *FS) mountAgain(image *os.File, kind, options string) (done bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(image.Fd()), &st); err != nil {
		return false, err
	}
	devices, err := loop.Find(st.Dev, st.Ino, filepath.Base(fs.image))
	if err != nil {
		return false, err
	}
	for _, d := range devices {
		f, err := os.Open(d.Path()) // it cannot go now, nor be given to another file
		if err != nil {
			continue
		}
		defer f.Close()
		if _, err := d.Binding(); err != nil {
			continue // it went before
		}
		return true, unix.Mount(d.Path(), fs.Dir, kind, 0, options)
	}
	return false, nil
}

// MountDevice mounts a loop device that was just made, and gives it to the mount: it goes
// with that, also when this process is killed, at whatever moment.
func MountDevice(d loop.Device, dir, kind string, flags uintptr, options string) error {
	f, err := os.Open(d.Path())
	if err != nil {
		return errors.Join(err, d.Release())
	}
	defer f.Close()
	// While it is open here this makes it go with its last close, which the mount delays.
	if err := d.Release(); err != nil {
		return err
	}
	return unix.Mount(d.Path(), dir, kind, flags, options)
}

// Remount makes the filesystem read-only, or writable again.
func (fs *FS) Remount(readOnly bool) error {
	flags := uintptr(unix.MS_REMOUNT)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return unix.Mount("", fs.Dir, "", flags, "")
}

// Unmount takes the filesystem away from its place, also while files in it are
// open. The image stays.
func (fs *FS) Unmount() error { return unix.Unmount(fs.Dir, unix.MNT_DETACH) }

// Remove unmounts the filesystem and deletes its image.
func (fs *FS) Remove() error {
	err := fs.Unmount()
	if err == unix.EINVAL { // it is not mounted
		err = nil
	}
	if fs.image != "" {
		err = errors.Join(err, os.Remove(fs.image))
	}
	return err
}

// UnmountBelow unmounts everything mounted below dir, the innermost first.
func UnmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, strings.ReplaceAll(fields[4], `\040`, " "))
		}
	}
	for i := len(points) - 1; i >= 0; i-- {
		err = errors.Join(err, unix.Unmount(points[i], unix.MNT_DETACH))
	}
	return err
}
