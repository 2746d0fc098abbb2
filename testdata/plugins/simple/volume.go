package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
)

// volume is a disk; its JSON is KEY.json. The size is that of KEY.img.
type volume struct {
	Name        string
	Description string
	Writable    bool
	Sharable    bool
	Of          string // the key of what it is a snapshot or clone of
	Keys        map[string]string
	sr          *repository
	key         string
}

func (v *volume) path(suffix string) string { return filepath.Join(v.sr.location, v.key+suffix) }

func (v *volume) store() error { return store(v.path(".json"), v) }

// volume reads a record.
func (s *repository) volume(key string) (*volume, error) {
	if err := parseKey(key); err != nil {
		return nil, err
	}
	v := &volume{sr: s, key: key}
	err := load(v.path(".json"), v)
	if errors.Is(err, os.ErrNotExist) {
		return nil, named("Volume_does_not_exist", key)
	}
	return v, err
}

func onVolume(do func(*volume, *request) (any, error)) func(*request) (any, error) {
	return onSR(func(s *repository, r *request) (any, error) {
		v, err := s.volume(r.text["key"])
		if err != nil {
			return nil, err
		}
		return do(v, r)
	})
}

func (v *volume) record() (any, error) {
	var st unix.Stat_t
	if err := unix.Stat(v.path(".img"), &st); err != nil {
		return nil, err
	}
	return map[string]any{
		"key": v.key, "uuid": v.key, "name": v.Name, "description": v.Description, "read_write": v.Writable, "sharable": v.Sharable,
		"virtual_size": st.Size, "physical_utilisation": st.Blocks * 512, "uri": []string{scheme + "://" + v.sr.UUID + "/" + v.key}, "keys": v.Keys,
	}, nil
}

// make makes the data with fill and then the record, which is the commit.
func (v *volume) make(fill func(f *os.File) error) (any, error) {
	v.key, v.Keys = uuid.NewString(), map[string]string{}
	f, err := os.OpenFile(v.path(".img"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = errors.Join(fill(f), f.Sync(), f.Close()); err == nil {
		err = v.store()
	}
	if err != nil {
		os.Remove(v.path(".img"))
		return nil, err
	}
	return v.record()
}

// rounded is a size in whole blocks.
func rounded(size int64) int64 { return (size + 4095) &^ 4095 }

func (s *repository) create(r *request) (any, error) {
	v := &volume{sr: s, Name: r.text["name"], Description: r.text["description"], Writable: true, Sharable: r.bool}
	return v.make(func(f *os.File) error {
		if err := f.Truncate(rounded(max(r.size, 1))); err != nil {
			return refuse(79, "size %d: %v", r.size, err)
		}
		return nil
	})
}

// derive makes a snapshot, or a clone that is writable.
func (v *volume) derive(writable bool) (any, error) {
	from, err := os.Open(v.path(".img"))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	devices, err := v.devices()
	if err != nil {
		return nil, err
	}
	for _, d := range devices { // what this host buffers on the device
		if err := d.Flush(); err != nil {
			return nil, err
		}
	}
	made := &volume{sr: v.sr, Name: v.Name, Description: v.Description, Writable: writable, Sharable: v.Sharable, Of: v.key}
	return made.make(func(f *os.File) error { return unix.IoctlFileClone(int(f.Fd()), int(from.Fd())) })
}

func (v *volume) resize(r *request) (any, error) {
	f, err := os.OpenFile(v.path(".img"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch size := rounded(r.size); {
	case !v.Writable:
		return nil, refuse(1, "%s is read-only", v.key)
	case size < st.Size():
		return nil, refuse(79, "%s has %d bytes: %d would be less", v.key, st.Size(), r.size)
	default:
		if err := f.Truncate(size); err != nil {
			return nil, refuse(79, "size %d: %v", r.size, err)
		}
	}
	devices, err := v.devices()
	for _, d := range devices {
		err = errors.Join(err, d.UpdateSize())
	}
	return nil, errors.Join(err, f.Sync())
}

// devices are the loop devices of the data.
func (v *volume) devices() ([]loop.Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(v.path(".img"), &st); err != nil {
		return nil, err
	}
	return loop.Find(st.Dev, st.Ino, v.key)
}

// unused says who has the volume.
func (v *volume) unused() error {
	devices, err := v.devices()
	if err == nil && len(devices) > 0 {
		err = refuse(24, "%s is in use: it is %s", v.key, devices[0].Path())
	}
	return err
}

// remove is Volume.destroy, which may be repeated.
func (s *repository) remove(r *request) (any, error) {
	v, err := s.volume(r.text["key"])
	if err != nil {
		var not refusal
		if parseKey(r.text["key"]) == nil && errors.As(err, &not) {
			return nil, nil // it is destroyed already
		}
		return nil, err
	}
	if err := v.unused(); err != nil {
		return nil, err
	}
	if clone, err := s.volume(v.Keys["clone-on-boot"]); err == nil && clone.Of == v.key && clone.Writable {
		if err := clone.unused(); err != nil {
			return nil, err
		}
		if err := clone.remove(); err != nil {
			return nil, err
		}
	}
	return nil, v.remove()
}

func (v *volume) remove() error {
	return errors.Join(os.Remove(v.path(".json")), flush(v.sr.location), os.Remove(v.path(".img")))
}
