package cbt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/datapath"
	"reflinksr/internal/loop"
	"reflinksr/volume"
)

// device is a volume that a domain has active. It is kept open, as a guest does: what is
// written to it stays in its page cache.
type device struct {
	uri  string
	file *os.File
}

const domain = "1"

func (b *bed) attach(d *modelDisk) (err error) {
	v := &device{uri: volume.URIAt(b.dir, b.uuid, d.key)}
	paths, err := datapath.Attach(v.uri, domain)
	if err != nil {
		return err
	}
	if err := datapath.Activate(v.uri, domain, !d.writable); err != nil {
		return err
	}
	flags := os.O_RDONLY
	if d.writable {
		flags = os.O_RDWR
	}
	if v.file, err = os.OpenFile(paths.Device, flags, 0); err != nil {
		return err
	}
	d.device = v
	return b.release(d)
}

// release lets the device go with us, who have it open, also when we fail or are killed:
// it would stay, and its filesystem with it.
func (b *bed) release(d *modelDisk) error {
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(b.dir, string(d.key)), &st); err != nil {
		return err
	}
	devices, err := loop.Find(st.Dev, st.Ino, string(d.key))
	for _, one := range devices {
		err = errors.Join(err, one.Release())
	}
	return err
}

func (b *bed) detach(d *modelDisk) error {
	v := d.device
	d.device = nil
	if err := v.file.Close(); err != nil {
		return err
	}
	if err := datapath.Deactivate(v.uri, domain); err != nil {
		return err
	}
	return datapath.Detach(v.uri, domain)
}

// path is where the disk is written to and read: its device, or its file.
func (b *bed) path(d *modelDisk) string {
	if d.device != nil {
		return d.device.file.Name()
	}
	return b.dir + "/" + string(d.key)
}

// aligned answers n bytes that direct I/O accepts, and how to give them back.
func aligned(n int) ([]byte, func(), error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return b, func() { unix.Munmap(b) }, err
}

// store writes data in one of three ways.
func store(path, way string, data []byte, offset int64) error {
	flags := os.O_RDWR
	if way == "direct" {
		flags |= unix.O_DIRECT
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	switch way {
	case "mapped":
		page := int64(os.Getpagesize())
		skip := offset % page
		m, err := unix.Mmap(int(f.Fd()), offset-skip, int(skip)+len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		copy(m[skip:], data)
		return unix.Munmap(m)
	case "direct":
		buffer, free, err := aligned(len(data))
		if err != nil {
			return err
		}
		defer free()
		copy(buffer, data)
		data = buffer
	case "buffered":
	default:
		return fmt.Errorf("no way %q", way)
	}
	_, err = f.WriteAt(data, offset)
	return err
}

// fallocate changes what is allocated of a file or a block device.
func fallocate(path string, mode uint32, offset, length int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), mode, offset, length)
}

// readAll reads a file or a device. Cold, it comes from the disk.
func readAll(path string, n int, cold bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cold {
		if err := unix.Fsync(int(f.Fd())); err != nil {
			return nil, err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return nil, err
		}
	}
	data := make([]byte, n+1)
	got, err := f.ReadAt(data, 0)
	if got != n {
		return nil, fmt.Errorf("%s has %d bytes or more, expected are %d: %v", path, got, n, err)
	}
	return data[:n], nil
}
