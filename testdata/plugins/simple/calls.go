package main

import (
	"os"
	"path/filepath"
)

// calls is what is offered. dbg comes first in each.
var calls = map[string]struct {
	params string
	do     func(r *request) (any, error)
}{
	"Plugin.Query": {"", query},

	"SR.create":   {"uuid configuration:map name description", createSR},
	"SR.attach":   {"configuration:map", attachSR},
	"SR.detach":   {"sr", detachSR},
	"SR.destroy":  {"sr", onSR((*repository).destroy)},
	"SR.stat":     {"sr", onSR((*repository).stat)},
	"SR.set_name": {"sr new_name", onSR(func(s *repository, r *request) (any, error) { s.Name = r.text["new_name"]; return nil, s.store() })},
	"SR.set_description": {"sr new_description", onSR(func(s *repository, r *request) (any, error) {
		s.Description = r.text["new_description"]
		return nil, s.store()
	})},
	"SR.ls": {"sr", onSR((*repository).list)},

	"Volume.create":   {"sr name description size:size sharable:bool", onSR((*repository).create)},
	"Volume.snapshot": {"sr key", onVolume(func(v *volume, r *request) (any, error) { return v.derive(false) })},
	"Volume.clone":    {"sr key", onVolume(func(v *volume, r *request) (any, error) { return v.derive(true) })},
	"Volume.destroy":  {"sr key", onSR((*repository).remove)},
	"Volume.set_name": {"sr key new_name", onVolume(func(v *volume, r *request) (any, error) { v.Name = r.text["new_name"]; return nil, v.store() })},
	"Volume.set_description": {"sr key new_description", onVolume(func(v *volume, r *request) (any, error) {
		v.Description = r.text["new_description"]
		return nil, v.store()
	})},
	"Volume.set":    {"sr key k v", onVolume(func(v *volume, r *request) (any, error) { v.Keys[r.text["k"]] = r.text["v"]; return nil, v.store() })},
	"Volume.unset":  {"sr key k", onVolume(func(v *volume, r *request) (any, error) { delete(v.Keys, r.text["k"]); return nil, v.store() })},
	"Volume.resize": {"sr key new_size:size", onVolume((*volume).resize)},
	"Volume.stat":   {"sr key", onVolume(func(v *volume, r *request) (any, error) { return v.record() })},

	"Datapath.attach":            {"uri domain", onDisk((*disk).attach)},
	"Datapath.activate":          {"uri domain", onDisk(func(d *disk, domain string) (any, error) { return nil, d.activate(domain, "rw") })},
	"Datapath.activate_readonly": {"uri domain", onDisk(func(d *disk, domain string) (any, error) { return nil, d.activate(domain, "ro") })},
	"Datapath.deactivate":        {"uri domain", onDisk((*disk).deactivate)},
	"Datapath.detach":            {"uri domain", onDisk((*disk).detach)},
}

func query(*request) (any, error) {
	return map[string]any{
		"plugin": "simple", "name": "simple", "description": "A small plugin that is right", "vendor": "example.org", "copyright": "Apache-2.0",
		"version": "1.0", "required_api_version": "5.0", "configuration": map[string]string{"location": "a directory on btrfs or XFS"},
		"features": features(), "required_cluster_stack": []string{},
	}, nil
}

// features are those for which there are calls: a plugin can be installed with fewer.
func features() []string {
	offered := []string{"SR_ATTACH", "SR_DETACH", "SR_CREATE", "SR_DELETE", "SR_SCAN", "SR_UPDATE", "VDI_CREATE", "VDI_DESTROY", "VDI_ATTACH",
		"VDI_DETACH", "VDI_ACTIVATE", "VDI_ACTIVATE_READONLY", "VDI_DEACTIVATE", "VDI_UPDATE"}
	for _, f := range []struct{ call, feature string }{
		{"Volume.clone", "VDI_CLONE"}, {"Volume.snapshot", "VDI_SNAPSHOT"}, {"Volume.resize", "VDI_RESIZE"}, {"Volume.resize", "VDI_RESIZE_ONLINE"},
	} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(os.Args[0]), f.call)); err == nil {
			offered = append(offered, f.feature)
		}
	}
	return offered
}
