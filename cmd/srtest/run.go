package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/tools/txtar"

	"reflinksr/cmd/internal/pool"
	"reflinksr/scripts"
	"reflinksr/scripts/scratch"
)

// list is srtest list.
func (o *options) list() error {
	dir, err := os.MkdirTemp("", "srtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := scripts.Config{Own: o.own, OpenNebula: o.openNebula, Hosts: o.hosts, SMAPIv1: o.smapiv1}.Select(dir, o.match)
	for _, file := range files {
		folder, name := filepath.Split(strings.TrimSuffix(file, ".txtar"))
		fmt.Fprintln(o.out, filepath.Base(folder)+"/"+name)
	}
	return err
}

// line is one that is neither empty nor a comment.
var line = regexp.MustCompile(`(?m)^[ \t]*[^# \t\r\n]`)

// find picks the scenarios to run: the tester's own, or ours, written to dir.
func find(c scripts.Config, dir string, pattern *regexp.Regexp, own []string) (files []string, err error) {
	if len(own) == 0 {
		files, err = c.Select(dir, pattern)
	}
	for _, path := range own {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		found := []string{path}
		if st.IsDir() {
			if found, err = below(path); err != nil {
				return nil, err
			}
		}
		for _, file := range found {
			if !scripts.Matches(pattern, file) {
				continue
			}
			if archive, err := txtar.ParseFile(file); err != nil {
				return nil, err
			} else if !line.Match(archive.Comment) {
				return nil, fmt.Errorf("%s has no line to carry out: it would pass whatever the plugin does", file)
			}
			files = append(files, file)
		}
	}
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("no scenario matches %q", pattern)
		if pattern.String() == "" {
			err = fmt.Errorf("there is no *.txtar in %s", strings.Join(own, ", "))
		}
	}
	return files, err
}

// below finds the scenarios in a directory and the folders in it.
func below(dir string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".txtar" {
			found = append(found, path)
		}
		return err
	})
	return found, err
}

// kindsOf says on which filesystems to run, and why that cannot be.
func (o *options) kindsOf() ([]string, error) {
	kinds := strings.Split(o.kinds, ",")
	for _, kind := range kinds {
		if err := scratch.Available(kind); err != nil {
			return nil, err
		}
	}
	return kinds, nil
}

// try runs the scenarios through one plugin, on each kind of filesystem, and tells
// of each result.
func (o *options) try(ctx context.Context, p target, tell func(scripts.Result)) error {
	c := p.config()
	c.OpenNebula, c.Hosts, c.SMAPIv1 = o.openNebula, o.hosts, o.smapiv1
	c.Own, c.Timeout, c.Limit, c.Context = o.own, o.timeout, o.limit, ctx
	if err := c.Check(); err != nil {
		return err
	}
	kinds, err := o.kindsOf()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "srtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := find(c, dir, o.match, o.scripts)
	if err != nil {
		return err
	}
	o.total += len(files) * len(kinds)
	var lock sync.Mutex
	c.Done = func(r scripts.Result) {
		lock.Lock()
		defer lock.Unlock()
		tell(r)
	}
	running := pool.New(o.jobs, o.verbose)
	for _, c.FS = range kinds {
		err = running.Run(func(t testscript.T) error { scripts.Run(t, c, files); return nil })
		if err != nil {
			break
		}
	}
	running.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted; everything is cleaned up")
	}
	return err
}

// printer shows results as they come, and the sum of them.
type printer interface {
	result(scripts.Result)
	end(tally)
}

// tally counts results.
type tally struct {
	passed, failed, skipped int
	red                     []string            // names of the failed
	why                     map[string][]string // names of the skipped, by reason
}

func (t *tally) add(r scripts.Result) {
	name := r.FS + "/" + r.Name
	switch r.Verdict {
	case scripts.Passed:
		t.passed++
	case scripts.Failed:
		t.failed++
		t.red = append(t.red, name)
	case scripts.Skipped:
		t.skipped++
		if t.why == nil {
			t.why = map[string][]string{}
		}
		t.why[r.Why] = append(t.why[r.Why], name)
	}
	slices.Sort(t.red)
}

// runScenarios is srtest run.
func (o *options) runScenarios() error {
	plugins := []target{{}}
	var err error
	switch {
	case o.openNebula != "":
		o.openNebula, err = filepath.Abs(o.openNebula)
	case o.smapiv1 != "":
		o.smapiv1, err = filepath.Abs(o.smapiv1)
	default:
		plugins, err = o.plugins()
	}
	if err != nil {
		return err
	}
	ctx, over := pool.Interruptible()
	defer over()
	var p printer = newTAP(o.out, o.verbose)
	if o.json {
		p = newJSONLines(o.out)
	}
	progress := newProgress(o.errs)
	var sum tally
	var kept junit
	err = o.try(ctx, plugins[0], func(r scripts.Result) {
		sum.add(r)
		kept.add(r)
		progress.clear()
		p.result(r)
		progress.show(sum, o.total, r)
	})
	progress.clear()
	if sum.passed+sum.failed+sum.skipped > 0 {
		p.end(sum)
	}
	if o.junit != "" {
		err = errors.Join(err, kept.write(o.junit))
	}
	if err == nil && sum.failed > 0 {
		err = fmt.Errorf("%d of %d scenarios failed", sum.failed, sum.passed+sum.failed)
	}
	return err
}
