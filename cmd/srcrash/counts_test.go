package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/cmd/srcrash/internal/trace"
	"reflinksr/internal/loop"
	"reflinksr/internal/rundir"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
	"reflinksr/sr"
)

// What a call asks the kernel about files is counted exactly: times would depend on the machine.

// counts is an SR whose calls are counted.
type counts struct {
	*testing.T
	rig.Plugin
	fs     *scratch.FS
	handle string
}

func newCounts(t *testing.T, kind string) *counts {
	t.Helper()
	dir := t.TempDir()
	p, err := rig.Install(filepath.Join(dir, "plugins"))
	if err != nil {
		t.Fatal(err)
	}
	fs, err := scratch.Make(kind, 1<<30, filepath.Join(dir, "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Remove() })
	uuid, err := sr.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &counts{T: t, Plugin: p, fs: fs}
	var conf map[string]string
	c.call(smapi.SRCreate{UUID: string(uuid), Configuration: map[string]string{"path": fs.Dir}}, &conf)
	c.call(smapi.SRAttach{Configuration: conf}, &c.handle)
	t.Cleanup(func() { c.call(smapi.SRDetach{SR: c.handle}, nil) })
	return c
}

func (c *counts) call(r smapi.Request, out any) {
	c.Helper()
	if err := c.Call(r, out); err != nil {
		c.Fatal(err)
	}
}

func (c *counts) volume() (v smapi.Volume) {
	c.Helper()
	c.call(smapi.VolumeCreate{SR: c.handle, Name: "disk", Size: 8 << 20}, &v)
	return v
}

// asked is what a call asks the kernel about files of the SR, notes and devices, call by call: not what the runtime does.
func (c *counts) asked(r smapi.Request) (all []string) {
	c.Helper()
	command := c.Command(r)
	ended, err := trace.Run(trace.Command{Path: command.Path, Args: []string{"--json"}, Stdin: command.Request, Looks: true, Stop: func(s *trace.Stop) trace.Action {
		descriptor := slices.ContainsFunc(s.Paths, func(path string) bool { return strings.HasPrefix(path, "/proc/") && strings.Contains(path, "/fd") })
		if descriptor || s.Below(c.fs.Dir, rundir.Path, "/sys/devices/virtual/block", "/sys/block", "/dev") && s.Kind != trace.Output {
			all = append(all, s.String())
		}
		return trace.Action{}
	}})
	if err == nil && !ended.Succeeded() {
		err = fmt.Errorf("%s", ended.Stdout)
	}
	if err != nil {
		c.Fatalf("%s: %v", r.Call(), err)
	}
	return all
}

// aside gives a directory another name until what it returns is called.
func (c *counts) aside(dir string) func() {
	c.Helper()
	if err := os.Rename(dir, dir+".aside"); err != nil && !os.IsNotExist(err) {
		c.Fatal(err)
	}
	return func() { os.Rename(dir+".aside", dir) }
}

// of counts those in which a text is.
func of(asked []string, text string) (n int) {
	for _, s := range asked {
		if strings.Contains(s, text) {
			n++
		}
	}
	return n
}

// bindForeign binds n loop devices to files that are nobody's.
func bindForeign(t *testing.T, n int) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("foreign", i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Truncate(1 << 20)
		var d loop.Device
		if err == nil {
			d, err = loop.Attach(loop.Config{File: f, SectorSize: 512})
		}
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Detach() })
	}
}

// A disk in use is found by its note, however many loop devices the host has besides: whoever looks at those does it once in a
// call, because only so is found what another program has bound to the file, or to one that was in its place.
func TestCallsLookAtTheirOwnDevice(t *testing.T) {
	needRoot(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			c := newCounts(t, kind)
			v := c.volume()
			life := func() map[string][]string {
				all := map[string][]string{}
				for _, r := range []smapi.Request{
					smapi.DatapathAttach{URI: v.URI[0], Domain: "1"}, smapi.DatapathActivate{URI: v.URI[0], Domain: "1"},
					smapi.VolumeSnapshot{SR: c.handle, Key: v.Key},
					smapi.DatapathDeactivate{URI: v.URI[0], Domain: "1"}, smapi.DatapathDetach{URI: v.URI[0], Domain: "1"},
				} {
					if r.Call() == "Datapath.detach" {
						// Removing numbers of devices is another process's, which looks for a lower one that is free.
						defer c.aside(filepath.Join(rundir.Path, "loop"))()
					}
					all[r.Call()] = c.asked(r)
				}
				return all
			}
			life() // the first of each kind makes what the next find
			before := life()
			bindForeign(t, 50)
			after := life()
			for call, asked := range after {
				looks, own := of(asked, "/loop/backing_file"), before[call]
				if call == "Datapath.attach" {
					if looks < 50 {
						t.Errorf("%s looks at %d loop devices: who finds what another program has bound?", call, looks)
					}
				} else if looks > 0 || len(asked) != len(own) {
					t.Errorf("%s asks %d times, and %d times with 50 devices of others, %d times what is behind a device:\n%s\n\nbefore:\n%s", call, len(own), len(asked), looks, strings.Join(asked, "\n"), strings.Join(own, "\n"))
				}
			}
			for what, r := range map[string]smapi.Request{
				"attach": smapi.DatapathAttach{URI: v.URI[0], Domain: "1"}, "grow": smapi.VolumeResize{SR: c.handle, Key: v.Key, NewSize: 16 << 20},
				"destroy": smapi.VolumeDestroy{SR: c.handle, Key: c.volume().Key}, "snapshot of an idle disk": smapi.VolumeSnapshot{SR: c.handle, Key: c.volume().Key},
			} {
				var looks []string
				for _, s := range c.asked(r) {
					if strings.HasPrefix(s, "openat ") && strings.HasSuffix(s, "/loop/backing_file") {
						looks = append(looks, s)
					}
				}
				slices.Sort(looks)
				if n := len(looks); n < 50 || len(slices.Compact(looks)) != n {
					t.Errorf("%s: %d looks, at %d devices", what, n, len(slices.Compact(looks)))
				}
			}
			c.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "1"}, nil)
		})
	}
}

// A scan costs six calls of the kernel for each volume, and a look at the SR one.
func TestScanAsksSixTimesForEachVolume(t *testing.T) {
	needRoot(t)
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			const few, more = 3, 100
			c := newCounts(t, kind)
			made := 0
			grow := func(to int) (ls, stat []string) {
				for ; made < to; made++ {
					c.volume()
				}
				c.asked(smapi.SRLs{SR: c.handle}) // notes the keys
				return c.asked(smapi.SRLs{SR: c.handle}), c.asked(smapi.SRStat{SR: c.handle})
			}
			lsFew, statFew := grow(few)
			lsMore, statMore := grow(few + more)
			// Closing is not counted here: it is done for many at once. What is beside are directories that take more calls to list.
			const beside = 12
			if n := len(lsMore) - len(lsFew); n < 6*more || n > 6*more+beside {
				t.Errorf("SR.ls asks %d times more of %d volumes more:\n%s", n, more, strings.Join(lsMore, "\n"))
			}
			if n := len(statMore) - len(statFew); n < more || n > more+beside {
				t.Errorf("SR.stat asks %d times more of %d volumes more:\n%s", n, more, strings.Join(statMore, "\n"))
			}
			if n := of(statMore, ".inf"); n > 0 {
				t.Errorf("SR.stat asks %d times of records, though all volumes would fit", n)
			}
			// Where they would not, what may be written is told all the same.
			c.call(smapi.VolumeCreate{SR: c.handle, Name: "large", Size: 1 << 40}, nil)
			var st smapi.SRStatus
			c.call(smapi.SRStat{SR: c.handle}, &st)
			if !strings.Contains(st.Health[1], "overcommitted: guests may still write up to") {
				t.Errorf("%+v", st.Health)
			}
			if n := of(c.asked(smapi.SRStat{SR: c.handle}), ".inf"); n < more {
				t.Errorf("SR.stat asks %d times of records of %d volumes that need not fit", n, more)
			}
		})
	}
}

// Few calls of the kernel are about files where one volume is looked at.
func TestStatAsksLittle(t *testing.T) {
	needRoot(t)
	c := newCounts(t, "xfs")
	v := c.volume()
	const most = 95
	if asked := c.asked(smapi.VolumeStat{SR: c.handle, Key: v.Key}); len(asked) > most {
		t.Errorf("Volume.stat asks %d times:\n%s", len(asked), strings.Join(asked, "\n"))
	}
}
