package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// repository is an SR; its JSON is sr.json.
type repository struct {
	UUID        string
	Name        string
	Description string
	location    string
}

func (s *repository) handle() string { return "simple:" + s.UUID }

func (s *repository) store() error { return store(filepath.Join(s.location, "sr.json"), s) }

// marker is the file that says that an SR is attached; it holds the location.
func marker(id string) string { return filepath.Join(run, id+".attached") }

// location is the directory that a configuration names.
func location(conf map[string]string) (string, error) {
	path := conf["location"]
	if st, err := os.Stat(path); !filepath.IsAbs(path) || err != nil || !st.IsDir() {
		return "", refuse(1, "location: %q is no directory", path)
	}
	return filepath.Clean(path), nil
}

func createSR(r *request) (any, error) {
	id, err := uuid.Parse(r.text["uuid"])
	if err != nil || id.String() != r.text["uuid"] {
		return nil, refuse(1, "uuid: %q is none", r.text["uuid"])
	}
	s := &repository{UUID: id.String(), Name: r.text["name"], Description: r.text["description"]}
	if s.location, err = location(r.conf); err != nil {
		return nil, err
	}
	var old repository
	if err := load(filepath.Join(s.location, "sr.json"), &old); err == nil && old.UUID != s.UUID {
		return nil, refuse(16, "%s is an SR already", s.location)
	} else if err == nil {
		return r.conf, nil
	}
	if err := shares(s.location); err != nil {
		return nil, refuse(42, "%s cannot share blocks between files; use btrfs or XFS: %v", s.location, err)
	}
	return r.conf, s.store()
}

// shares says why FICLONE does not work in a directory.
func shares(dir string) error {
	a, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer a.Close()
	defer os.Remove(a.Name())
	b, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer b.Close()
	defer os.Remove(b.Name())
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd()))
}

func attachSR(r *request) (any, error) {
	s := new(repository)
	var err error
	if s.location, err = location(r.conf); err != nil {
		return nil, err
	}
	if err := load(filepath.Join(s.location, "sr.json"), s); err != nil {
		return nil, named("SR_does_not_exist", s.location)
	}
	// What a crash left half made.
	half, _ := filepath.Glob(filepath.Join(s.location, "*.new"))
	for _, path := range half {
		os.Remove(path)
	}
	images, _ := filepath.Glob(filepath.Join(s.location, "*.img"))
	for _, path := range images {
		if _, err := os.Stat(strings.TrimSuffix(path, ".img") + ".json"); errors.Is(err, os.ErrNotExist) {
			os.Remove(path)
		}
	}
	return s.handle(), os.WriteFile(marker(s.UUID), []byte(s.location), 0o600)
}

// open finds an attached SR.
func open(handle string) (*repository, error) {
	id, ok := strings.CutPrefix(handle, "simple:")
	if _, err := uuid.Parse(id); !ok || err != nil {
		return nil, named("Sr_not_attached", handle)
	}
	at, err := os.ReadFile(marker(id))
	if err != nil {
		return nil, named("Sr_not_attached", handle)
	}
	s := &repository{location: string(at)}
	if err := load(filepath.Join(s.location, "sr.json"), s); err != nil || s.UUID != id {
		return nil, named("Sr_not_attached", handle) // its filesystem is gone
	}
	return s, nil
}

func onSR(do func(*repository, *request) (any, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		s, err := open(r.text["sr"])
		if err != nil {
			return nil, err
		}
		return do(s, r)
	}
}

func detachSR(r *request) (any, error) {
	id, ok := strings.CutPrefix(r.text["sr"], "simple:")
	if _, err := uuid.Parse(id); !ok || err != nil {
		return nil, named("Sr_not_attached", r.text["sr"])
	}
	used, _ := filepath.Glob(filepath.Join(run, id+"_*"))
	if len(used) > 0 {
		return nil, refuse(24, "%d of its volumes are attached", len(used))
	}
	if err := os.Remove(marker(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}

func (s *repository) destroy(*request) (any, error) {
	volumes, err := s.volumes()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if err := v.unused(); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(s.location, "sr.json")), flush(s.location)); err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if err := v.remove(); err != nil {
			return nil, err
		}
	}
	return nil, os.Remove(marker(s.UUID))
}

func (s *repository) stat(*request) (any, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.location, &st); err != nil {
		return nil, err
	}
	return map[string]any{
		"sr": s.handle(), "uuid": s.UUID, "name": s.Name, "description": s.Description, "datasources": []string{}, "clustered": false,
		"free_space": int64(st.Bavail) * st.Bsize, "total_space": int64(st.Blocks) * st.Bsize, "health": []string{"Healthy", ""},
	}, nil
}

// volumes reads all records.
func (s *repository) volumes() (all []*volume, err error) {
	files, err := filepath.Glob(filepath.Join(s.location, "*-*-*-*-*.json"))
	for _, file := range files {
		v, err := s.volume(strings.TrimSuffix(filepath.Base(file), ".json"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, v)
	}
	return all, err
}

func (s *repository) list(*request) (any, error) {
	volumes, err := s.volumes()
	if err != nil {
		return nil, err
	}
	records := []any{}
	for _, v := range volumes {
		record, err := v.record()
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}
