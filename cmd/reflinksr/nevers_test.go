package main

import (
	"slices"
	"strings"
	"testing"
)

// What no arrow may ever do, whatever else TestArrows is told to allow: each line is a sentence of the design.
func TestNevers(t *testing.T) {
	doors := []string{"reflinksr/cmd/"}
	wires := []string{"reflinksr/internal/smapi", "reflinksr/internal/smapiv1", "reflinksr/internal/opennebula", "reflinksr/internal/rrd", "reflinksr/internal/xenstore", "reflinksr/internal/openmetrics"}
	kit := []string{"reflinksr/scripts", "reflinksr/testdata"}
	rooms := []string{"reflinksr/sr", "reflinksr/volume", "reflinksr/snapshot", "reflinksr/datapath", "reflinksr/internal/check", "reflinksr/internal/repository", "reflinksr/internal/datastore",
		"reflinksr/internal/source", "reflinksr/internal/probe", "reflinksr/internal/layout", "reflinksr/internal/attached"}
	belowUseCases := slices.DeleteFunc(slices.Clone(rooms), func(room string) bool {
		return room == "reflinksr/internal/repository" || room == "reflinksr/internal/datastore"
	})
	kernel := []string{"golang.org/x/sys/", "syscall", "unsafe"}
	for _, never := range []struct {
		says  string
		who   []string // patterns of go list
		but   []string // that are not meant
		what  []string // a package, or with those below it
		links bool     // by way of others too
	}{
		{says: "a room never imports a door", who: []string{"./sr/...", "./volume/...", "./snapshot/...", "./datapath/...", "./internal/..."}, what: doors, links: true},
		{says: "a door imports no room: it has the use cases", who: []string{"./cmd/reflinksr", "./cmd/reflinksr-metrics", "./cmd/srnbd", "./cmd/onereflink", "./cmd/reflinksr-smapiv1", "./cmd/srctl", "./cmd/srtest", "./cmd/srlab", "./cmd/internal/..."}, what: belowUseCases},
		{says: "a room never imports the kit", who: []string{"./sr/...", "./volume/...", "./snapshot/...", "./datapath/...", "./internal/..."}, what: kit, links: true},
		{says: "a room never imports a wire", who: []string{"./sr/...", "./volume/...", "./snapshot/...", "./datapath/...", "./internal/..."}, but: wires, what: wires, links: true},
		{says: "volume never imports loop", who: []string{"./volume/..."}, what: []string{"reflinksr/internal/loop"}},
		{says: "the kit never imports rooms: it calls plugins", who: []string{"./scripts/...", "./cmd/srtest/..."}, what: rooms, links: true},
		{says: "repository makes no system call", who: []string{"./internal/repository"}, what: kernel},
		{says: "a wire never imports a room", who: []string{"./internal/smapi/...", "./internal/smapiv1/...", "./internal/opennebula", "./internal/rrd", "./internal/xenstore", "./internal/openmetrics"}, what: rooms, links: true},
	} {
		is := func(name string, list []string) bool {
			return slices.ContainsFunc(list, func(p string) bool {
				return name == strings.TrimSuffix(p, "/") || strings.HasPrefix(name, strings.TrimSuffix(p, "/")+"/")
			})
		}
		var patterns []string
		for _, p := range never.who {
			patterns = append(patterns, "../../"+strings.TrimPrefix(p, "./"))
		}
		field := "Imports"
		if never.links {
			field = "Deps"
		}
		out := goList(t, append([]string{"-f", `{{.ImportPath}}:{{range .` + field + `}}{{.}},{{end}}`}, patterns...)...)
		if len(out) == 0 {
			t.Errorf("%s: nobody is there", never.says)
		}
		for _, line := range out {
			name, list, _ := strings.Cut(line, ":")
			if is(name, never.but) {
				continue
			}
			for _, i := range strings.Split(list, ",") {
				if is(i, never.what) {
					t.Errorf("%s, and %s has %s", never.says, name, i)
				}
			}
		}
	}
}
