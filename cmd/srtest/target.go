package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"

	"reflinksr/scripts"
	"reflinksr/scripts/plugindir"
)

// toolstack is where plugins are on a host of the toolstack.
const toolstack = "/usr/libexec/xapi-storage-script"

// target is one plugin to try.
type target struct {
	volume    string
	datapaths []string
	sr        map[string]string
}

// targets are flags: -volume begins a plugin, and the -datapath and -config that
// follow belong to it; those before the first -volume are for all.
type targets struct {
	all  target
	each []target
}

func (t *targets) last() *target {
	if len(t.each) == 0 {
		return &t.all
	}
	return &t.each[len(t.each)-1]
}

func (t *targets) define(flags *flag.FlagSet) {
	// Scenarios run commands elsewhere: a path has to be absolute.
	absolute := func(dir string) (string, error) {
		if dir == "" {
			return "", errors.New("it names no directory")
		}
		return filepath.Abs(dir)
	}
	flags.Func("volume", "", func(dir string) error {
		dir, err := absolute(dir)
		t.each = append(t.each, target{volume: dir})
		return err
	})
	flags.Func("datapath", "", func(dir string) error {
		dir, err := absolute(dir)
		t.last().datapaths = append(t.last().datapaths, dir)
		return err
	})
	flags.Func("config", "", func(file string) (err error) {
		t.last().sr, err = scripts.ReadConfiguration(file)
		return err
	})
}

// plugins are the targets, each by the directory of the plugin itself, with what was left
// out: our plugin where the toolstack has it; the datapath directory that lies beside the
// volume plugins'.
func (t *targets) plugins() ([]target, error) {
	each := t.each
	if len(each) == 0 {
		each = []target{{volume: toolstack + "/volume/org.xen.xapi.storage.reflink"}}
	}
	for i := range each {
		p := &each[i]
		if p.sr == nil {
			p.sr = t.all.sr
		}
		var err error
		if p.volume, err = plugindir.One(plugindir.Volume, p.volume, ""); err != nil {
			return nil, err
		}
		p.datapaths = append(p.datapaths, t.all.datapaths...)
		if len(p.datapaths) > 0 {
			continue
		}
		beside := filepath.Join(filepath.Dir(filepath.Dir(p.volume)), "datapath")
		if st, err := os.Stat(beside); err != nil || !st.IsDir() {
			beside = toolstack + "/datapath"
		}
		p.datapaths = []string{beside}
	}
	return each, nil
}

// config is what scenarios need to know of a plugin.
func (p target) config() scripts.Config {
	return scripts.Config{Volume: p.volume, Datapath: p.datapaths, SR: p.sr}
}
