// Package loop turns an open file into a block device and back, by ioctl.
//
// It is a leaf: it knows the kernel's loop driver (drivers/block/loop.c,
// loop(4)) and nothing of volumes. Both the current interface (LOOP_CONFIGURE,
// Linux 5.8) and the older one of several steps (Linux 4.19, XCP-ng 8.3) are used.
//
// A device is found by the file behind it, (device, inode), never by path text.
package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Config says how a file becomes a device.
type Config struct {
	// File is the file, open for reading, or for reading and writing unless
	// ReadOnly. The caller keeps it and may close it afterwards.
	File     *os.File
	ReadOnly bool // the kernel refuses every write
	// SectorSize is the logical sector size, 512 or 4096 bytes. Left to itself
	// the kernel chooses differently before and after a first snapshot on XFS.
	SectorSize int
	DirectIO   bool   // bypass the page cache of the file
	Name       string // shown by losetup, at most 63 bytes are kept
	// Added is told of a number that is added for the device, because there is none that
	// nobody has used: somebody should remove it some time after. If that is an error, the
	// device has another number. nil: no number is added.
	Added func(number int) error
}

// Device is one loop device, /dev/loopN, bound to the file with a device and inode
// number. Everything done to it is done only while it is bound to that file: the
// kernel gives a number that is free to the next who asks.
type Device struct {
	Number   int
	Dev, Ino uint64
	Instance
}

// Instance tells a device from others that have its number at other times. It counts where
// the file cannot be looked at any more, because its filesystem has died: the device must
// be let go of all the same.
type Instance struct {
	Sequence uint64 `json:"sequence,omitempty"` // the kernel's, never given twice (diskseq, Linux 5.15); 0: not known
	Name     string `json:"name,omitempty"`     // of the file; what counts where there is no sequence
}

// Same says whether two are one number with one file.
func (d Device) Same(o Device) bool { return d.Number == o.Number && d.Dev == o.Dev && d.Ino == o.Ino }

// ErrGone says that the device is not bound to the file any more.
var ErrGone = errors.New("the loop device is bound to its file no more")

// Path is the device's node.
func (d Device) Path() string { return "/dev/loop" + strconv.Itoa(d.Number) }

// attempts bounds the search for a free device: between being told of one and
// taking it, others take it (up to 230 times was seen with 32 competitors).
const attempts = 2000

// bindTimeout bounds it as well, where the host is so busy that each attempt takes long.
const bindTimeout = 40 * time.Second

// Attach binds the file to a free device.
func Attach(c Config) (Device, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return Device{}, fmt.Errorf("%w: is the loop module loaded? modprobe loop", err)
	}
	defer control.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(c.File.Fd()), &st); err != nil {
		return Device{}, &os.PathError{Op: "stat", Path: c.File.Name(), Err: err}
	}
	deadline := time.Now().Add(bindTimeout)
	for attempt := 0; attempt < attempts && time.Now().Before(deadline); attempt++ {
		n, added, err := takeNumber(control, c.Added, attempt)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ENOSPC { // of device numbers: no filesystem is full
			return Device{}, errors.New("no free loop device: the kernel has no number left: detach devices that nobody needs (losetup -a)")
		}
		if err != nil {
			return Device{}, fmt.Errorf("no free loop device: %w", err)
		}
		d := Device{n, st.Dev, st.Ino, Instance{Name: filepath.Base(c.File.Name())}}
		taken, err := d.bind(c)
		if err != nil && added {
			removeNumber(control, n) // or others have it
		}
		switch {
		case err == nil:
			d.Sequence = sequence(n)
			return d, nil
		case taken:
			// Somebody else took it, or is just taking it down.
			if attempt > 20 {
				time.Sleep(time.Duration(attempt%10) * time.Millisecond)
			}
		default:
			return Device{}, fmt.Errorf("%s: %w", d.Path(), err)
		}
	}
	return Device{}, errors.New("no free loop device: others took every one first; raise max_loop")
}

// bind takes the device, and says whether it failed because somebody else has it.
func (d Device) bind(c Config) (taken bool, err error) {
	f, err := d.open(os.O_RDWR)
	if err != nil {
		return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO), err
	}
	defer f.Close()
	if err := removePartitions(f, d.Number); err != nil {
		return errors.Is(err, unix.EBUSY), err
	}
	fd := int(f.Fd())
	var info unix.LoopInfo64
	copy(info.File_name[:len(info.File_name)-1], c.Name)
	if c.ReadOnly {
		info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	config := unix.LoopConfig{Fd: uint32(c.File.Fd()), Size: uint32(c.SectorSize), Info: info} // #nosec G115 -- 512 or 4096
	if c.DirectIO {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	err = unix.IoctlLoopConfigure(fd, &config)
	if err == unix.ENOTTY || err == unix.EINVAL {
		err = bindInSteps(fd, c, &info)
	}
	if err != nil {
		return err == unix.EBUSY || err == unix.ENXIO, err
	}
	if !c.ReadOnly {
		// Somebody's mark on this number may have outlived their device.
		if err := setReadOnly(f, false); err != nil {
			unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
			return false, err
		}
	}
	return false, nil
}

// bindInSteps is for kernels without LOOP_CONFIGURE. The device exists with
// other properties for a moment, but nobody knows of it yet. Read-only follows
// from the file being open for reading only.
func bindInSteps(fd int, c Config, info *unix.LoopInfo64) error {
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, int(c.File.Fd())); err != nil {
		return err
	}
	err := unix.IoctlLoopSetStatus64(fd, info)
	if err == nil {
		err = setSectorSize(fd, c.SectorSize)
	}
	if err == nil {
		dio := 0
		if c.DirectIO {
			dio = 1
		}
		err = unix.IoctlSetInt(fd, unix.LOOP_SET_DIRECT_IO, dio)
		if err == unix.EINVAL {
			// The filesystem cannot; Info tells what came of it.
			err = nil
		}
	}
	if err != nil {
		unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	}
	return err
}

// setSectorSize repeats what the kernel refuses while somebody (udev) has pages of
// the device cached.
func setSectorSize(fd, size int) error {
	for attempt := 0; ; attempt++ {
		err := unix.IoctlSetInt(fd, unix.LOOP_SET_BLOCK_SIZE, size)
		if err != unix.EAGAIN || attempt == 100 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (d Device) open(flags int) (*os.File, error) {
	f, err := os.OpenFile(d.Path(), flags, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if _, e := os.Stat("/sys/block/loop" + strconv.Itoa(d.Number)); e == nil {
		// Without udev or devtmpfs nobody makes the node: loop's major is 7.
		unix.Mknod(d.Path(), unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(d.Number)))) // #nosec G115 -- the kernel's number
		f, err = os.OpenFile(d.Path(), flags, 0)
	}
	return f, err
}

// Bound is the loop devices in use at one moment, by the names of their files.
type Bound []bound

type bound struct {
	number int
	path   string // of the file, by sysfs; "… (deleted)" if it is
}

func (b bound) name() string { return filepath.Base(b.path) }

// List lists the loop devices in use.
func List() (Bound, error) {
	// Not /proc/partitions: it lacks devices of size 0, and reading it in pieces can
	// skip an entry when another disk goes.
	d, err := os.Open("/sys/block")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all Bound
	page := make([]byte, os.Getpagesize())
	for _, name := range names {
		number, isLoop := strings.CutPrefix(name, "loop")
		n, err := strconv.Atoi(number)
		if !isLoop || err != nil {
			continue
		}
		backing, err := readSmall("/sys/block/"+name+"/loop/backing_file", page)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			continue // not bound
		}
		if errors.Is(err, unix.ENAMETOOLONG) {
			continue // its file's path has more than a page, and so is none that we could have opened
		}
		if err != nil {
			return nil, err
		}
		all = append(all, bound{n, strings.TrimSuffix(string(backing), "\n")})
	}
	return all, nil
}

// readSmall reads a file of sysfs, which is at most a page, into one. A host can have
// hundreds of devices, and the poller of os.ReadFile doubles the time of each.
func readSmall(path string, page []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == unix.EINTR {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, page)
	for err == unix.EINTR {
		n, err = unix.Read(fd, page)
	}
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return page[:n], nil
}

// Where picks the devices of files at the paths that may says yes to. What another program's
// device is like must not matter, and it can only be asked by looking at its file, which may
// be on a filesystem that is dead.
func (all Bound) Where(may func(path string) bool) Bound {
	return slices.DeleteFunc(slices.Clone(all), func(b bound) bool { return !may(strings.TrimSuffix(b.path, deleted)) })
}

// Of picks the devices bound to the file with this device and inode number. Only
// devices whose file's name contains hint are opened: opening somebody else's
// device while it is being detached delays its end.
func (all Bound) Of(dev, ino uint64, hint string) ([]Device, error) {
	var found []Device
	var errs error
	for _, b := range all {
		if !strings.Contains(b.name(), hint) {
			continue
		}
		d := Device{b.number, dev, ino, Instance{Name: strings.TrimSuffix(b.name(), deleted)}}
		switch err := d.with(func(*os.File, *unix.LoopInfo64) error { return nil }); {
		case err == nil:
			d.Sequence = sequence(d.Number)
			found = append(found, d)
		case !errors.Is(err, ErrGone):
			errs = errors.Join(errs, err)
		}
	}
	return found, errs
}

// deleted is what sysfs adds to the name of a file that has none any more.
const deleted = " (deleted)"

// At lists the devices of what is, or was, at a path, as far as names tell. It is for
// files that cannot be looked at any more.
func (all Bound) At(path string) []Device {
	var found []Device
	for _, b := range all {
		if strings.TrimSuffix(b.path, deleted) == path {
			found = append(found, Device{Number: b.number, Instance: Instance{Sequence: sequence(b.number), Name: filepath.Base(path)}})
		}
	}
	return found
}

// Former lists the devices of what was at a path until the file with this device and inode
// number was put there, on the same filesystem.
func (all Bound) Former(path string, dev, ino uint64) ([]Device, error) {
	var found []Device
	for _, d := range all.At(path) {
		f, err := d.open(os.O_RDONLY)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		f.Close()
		switch {
		case err == unix.ENXIO:
		case err != nil:
			return nil, fmt.Errorf("%s: %w", d.Path(), err)
		case info.Device == dev && info.Inode != ino:
			d.Dev, d.Ino = info.Device, info.Inode
			found = append(found, d)
		}
	}
	return found, nil
}

// Any says whether Of could find a device with that hint.
func (all Bound) Any(hint string) bool {
	return slices.ContainsFunc(all, func(b bound) bool { return strings.Contains(b.name(), hint) })
}

// Find is List and Of.
func Find(dev, ino uint64, hint string) ([]Device, error) {
	all, err := List()
	if err != nil {
		return nil, err
	}
	return all.Of(dev, ino, hint)
}

// Detach unbinds the device. While somebody has it open the kernel answers
// success all the same and unbinds at the last close; gone is false then.
func (d Device) Detach() (gone bool, err error) {
	err = d.blindly(func(f *os.File) error {
		setReadOnly(f, false) // the mark would stay with the number
		removePartitions(f, d.Number)
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	})
	// udev and blkid open devices for moments; whoever stays longer is a user.
	for range 50 {
		if errors.Is(err, ErrGone) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err = d.blindly(func(*os.File) error { return nil }); err == nil {
			time.Sleep(4 * time.Millisecond)
		}
	}
	return false, nil
}

// Info is what the kernel made of a Config, read back.
type Info struct {
	Size       int64 // bytes
	SectorSize int   // bytes
	DirectIO   bool
	ReadOnly   bool
}

// Info reads the device's properties from sysfs: the request does not tell, the
// kernel drops direct I/O silently.
func (d Device) Info() (Info, error) {
	base := "/sys/block/loop" + strconv.Itoa(d.Number)
	var info Info
	for path, set := range map[string]func(int64){
		"/size":                     func(n int64) { info.Size = n * 512 },
		"/queue/logical_block_size": func(n int64) { info.SectorSize = int(n) },
		"/loop/dio":                 func(n int64) { info.DirectIO = n != 0 },
		"/ro":                       func(n int64) { info.ReadOnly = n != 0 },
	} {
		data, err := os.ReadFile(base + path)
		if err != nil {
			return info, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return info, err
		}
		set(n)
	}
	return info, nil
}

// UpdateSize makes the device as long as its file is now. The kernel would also
// shrink it.
func (d Device) UpdateSize() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error {
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY, 0)
	})
}

// SetReadOnly sets or lifts the block layer's read-only mark (BLKROSET) for
// programs that write to the device; one bound ReadOnly stays so regardless. On
// current kernels the mark stays with the number when the device is detached.
func (d Device) SetReadOnly(ro bool) error {
	return d.with(func(f *os.File, info *unix.LoopInfo64) error {
		if info.Flags&unix.LO_FLAGS_READ_ONLY != 0 {
			return nil
		}
		return setReadOnly(f, ro)
	})
}

func setReadOnly(f *os.File, ro bool) error {
	value := int32(0)
	if ro {
		value = 1
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKROSET, uintptr(unsafe.Pointer(&value)))
	if errno != 0 {
		return errno
	}
	return nil
}

// Flush writes what this host buffered on the device to the file and makes the
// file durable.
func (d Device) Flush() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error { return f.Sync() })
}

// Binding is how a device is bound to its file, for good.
type Binding struct {
	ReadOnly          bool
	Offset, SizeLimit int64 // bytes; 0 and 0: the whole file
}

// Binding asks the kernel.
func (d Device) Binding() (b Binding, err error) {
	err = d.with(func(_ *os.File, info *unix.LoopInfo64) error {
		b = Binding{info.Flags&unix.LO_FLAGS_READ_ONLY != 0, int64(info.Offset), int64(info.Sizelimit)} // #nosec G115 -- of a file: below 2^63
		return nil
	})
	return b, err
}

// Release lets go of the device: now, or when what has it open (a mounted
// filesystem) lets go of it.
func (d Device) Release() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error { return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0) })
}

// Keep takes back a Detach that waits for the last close. From then on the device
// stays until somebody detaches it.
func (d Device) Keep() error {
	return d.with(func(f *os.File, info *unix.LoopInfo64) error {
		if info.Flags&unix.LO_FLAGS_AUTOCLEAR == 0 {
			return nil
		}
		info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
		return unix.IoctlLoopSetStatus64(int(f.Fd()), info)
	})
}

// blindly is with for who lets go of the device, and so needs to know nothing of the file:
// if that cannot be looked at because its filesystem has died, the device still is what it
// was.
func (d Device) blindly(do func(*os.File) error) error {
	err := d.with(func(f *os.File, _ *unix.LoopInfo64) error { return do(f) })
	if err == nil || errors.Is(err, ErrGone) {
		return err
	}
	same, e := d.isInstance()
	if e != nil {
		return errors.Join(err, e)
	}
	if !same {
		return ErrGone
	}
	f, e := d.open(os.O_RDONLY)
	if errors.Is(e, unix.ENXIO) || errors.Is(e, os.ErrNotExist) {
		return ErrGone
	}
	if e != nil {
		return errors.Join(err, e)
	}
	defer f.Close()
	// Now that it is open its number stays what it is.
	if same, e = d.isInstance(); e != nil || !same {
		return errors.Join(ErrGone, e)
	}
	if e := do(f); e != nil && e != unix.ENXIO {
		return fmt.Errorf("%s: %w", d.Path(), e)
	}
	return nil
}

// with opens the device, makes sure that it is bound to its file, and runs do:
// while it is open its number cannot become another file's. ErrGone if it is not.
func (d Device) with(do func(*os.File, *unix.LoopInfo64) error) error {
	f, err := d.open(os.O_RDONLY)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == unix.ENXIO || err == nil && (info.Device != d.Dev || info.Inode != d.Ino) {
		return ErrGone
	}
	if err == nil {
		err = do(f, info)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Path(), err)
	}
	return nil
}
