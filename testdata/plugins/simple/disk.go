package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
)

// scheme of the URIs.
const scheme = "loop+simple"

// disk is a volume as domains have it; its JSON is in /run while one has.
type disk struct {
	Domains map[string]string // what each may do: "", "ro" or "rw"
	Loop    loop.Device
	id, key string
}

func (d *disk) file() string { return filepath.Join(run, d.id+"_"+d.key) }

func onDisk(do func(d *disk, domain string) (any, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		path, ok := strings.CutPrefix(r.text["uri"], scheme+"://")
		id, key, _ := strings.Cut(path, "/")
		if !ok || uuid.Validate(id) != nil || parseKey(key) != nil {
			return nil, refuse(1, "%q is no URI of a volume", r.text["uri"])
		}
		d := &disk{id: id, key: key, Domains: map[string]string{}}
		if err := load(d.file(), d); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return do(d, r.text["domain"])
	}
}

// store keeps the state as long as a domain has the disk.
func (d *disk) store() error {
	if len(d.Domains) > 0 {
		return store(d.file(), d)
	}
	if err := os.Remove(d.file()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (d *disk) volume() (*volume, error) {
	s, err := open("simple:" + d.id)
	if err != nil {
		return nil, err
	}
	return s.volume(d.key)
}

func (d *disk) attach(domain string) (any, error) {
	v, err := d.volume()
	if err != nil {
		return nil, err
	}
	devices, err := v.devices()
	if err != nil {
		return nil, err
	}
	if len(devices) == 0 {
		writable := v.Writable
		f, err := os.OpenFile(v.path(".img"), map[bool]int{true: os.O_RDWR, false: os.O_RDONLY}[writable], 0)
		if errors.Is(err, unix.EROFS) {
			writable = false
			f, err = os.Open(v.path(".img"))
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		device, err := loop.Attach(loop.Config{File: f, ReadOnly: !writable, SectorSize: 512, Name: filepath.Base(f.Name())})
		if err != nil {
			return nil, err
		}
		devices = []loop.Device{device}
	}
	d.Loop = devices[0]
	if _, has := d.Domains[domain]; !has {
		d.Domains[domain] = ""
	}
	return map[string]any{"implementations": []any{
		[]any{"XenDisk", map[string]any{"params": d.Loop.Path(), "extra": map[string]string{}, "backend_type": "vbd"}},
		[]any{"BlockDevice", map[string]any{"path": d.Loop.Path()}},
	}}, d.store()
}

func (d *disk) activate(domain, mode string) error {
	v, err := d.volume()
	if err != nil {
		return err
	}
	has, attached := d.Domains[domain]
	if !attached {
		return refuse(1, "%s is not attached to domain %s", d.key, domain)
	}
	if has != "" && has != mode {
		return refuse(24, "%s is in use in another way by domain %s", d.key, domain)
	}
	if !v.Writable {
		mode = "ro"
	}
	for other, way := range d.Domains {
		if other != domain && way != "" && (way != mode || mode == "rw" && !v.Sharable) {
			return refuse(24, "%s is in use by domain %s", d.key, other)
		}
	}
	devices, err := v.devices()
	for _, device := range devices {
		if bound, e := device.Binding(); e == nil && bound.ReadOnly && mode == "rw" {
			return refuse(47, "%s was attached while its filesystem was read-only", d.key)
		}
		_, e := device.SetReadOnly(mode == "ro")
		err = errors.Join(err, e)
	}
	d.Domains[domain] = mode
	return errors.Join(err, d.store())
}

func (d *disk) deactivate(domain string) (any, error) {
	if way := d.Domains[domain]; way == "" {
		return nil, nil
	}
	d.Domains[domain] = ""
	return nil, errors.Join(d.sync(), d.store())
}

// sync makes what was written durable. The volume's filesystem may be gone.
func (d *disk) sync() error {
	if v, err := d.volume(); err == nil {
		devices, err := v.devices()
		for _, device := range devices {
			err = errors.Join(err, device.Flush())
		}
		return err
	}
	return nil
}

// detach never fails for want of what is gone already.
func (d *disk) detach(domain string) (any, error) {
	if _, attached := d.Domains[domain]; !attached {
		return nil, nil
	}
	delete(d.Domains, domain)
	if len(d.Domains) == 0 {
		if err := d.unbind(); err != nil {
			return nil, err
		}
	}
	return nil, d.store()
}

// unbind ends the device, also where the volume's file is gone.
func (d *disk) unbind() error {
	_, err := d.Loop.Detach()
	return err
}
