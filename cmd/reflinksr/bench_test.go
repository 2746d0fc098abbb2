package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/smapi"
	"reflinksr/internal/smapi/invoke"
	"reflinksr/scripts/scratch"
	"reflinksr/sr"
)

// bench is an installed plugin, built as it is shipped.
type bench struct {
	b      *testing.B
	plugin invoke.Plugin
}

func newBench(b *testing.B) *bench {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("mounting filesystems and attaching loop devices needs root")
	}
	dir := b.TempDir()
	program := filepath.Join(dir, "reflinksr")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(program, "install", "--root", dir).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return &bench{b, calls(dir, "bench")}
}

// call makes one call and decodes the answer into out, if that is not nil.
func (p *bench) call(r smapi.Request, out any) {
	if err := p.plugin.Do(context.Background(), r, out); err != nil {
		p.b.Fatal(err)
	}
}

// benchSR is an attached SR on a filesystem of its own.
type benchSR struct {
	*bench
	fs     *scratch.FS
	handle string
}

func (p *bench) sr(kind string, options map[string]string) *benchSR {
	p.b.Helper()
	if err := scratch.Available(kind); err != nil {
		p.b.Skip(err)
	}
	fs, err := scratch.Make(kind, 4<<30, filepath.Join(p.b.TempDir(), "mnt"))
	if err != nil {
		p.b.Fatal(err)
	}
	p.b.Cleanup(func() { fs.Remove() })
	key, err := sr.NewKey() // an SR's UUID is any
	if err != nil {
		p.b.Fatal(err)
	}
	s := &benchSR{bench: p, fs: fs}
	var conf map[string]string
	asked := map[string]string{"path": fs.Dir}
	maps.Copy(asked, options)
	p.call(smapi.SRCreate{UUID: string(key), Configuration: asked}, &conf)
	p.call(smapi.SRAttach{Configuration: conf}, &s.handle)
	p.b.Cleanup(func() { p.call(smapi.SRDetach{SR: s.handle}, nil) })
	return s
}

type benchVolume struct {
	Key string
	URI []string
}

func (s *benchSR) create() (v benchVolume) {
	s.call(smapi.VolumeCreate{SR: s.handle, Name: "disk", Size: 64 << 20}, &v)
	return v
}

// paired runs a floor and a call in turn and reports the call's time, the floor's
// and how many floors the call takes: these machines drift, the ratio does not.
func paired(b *testing.B, floor, call func(), prepare ...func()) {
	b.Helper()
	var low, high time.Duration
	for b.Loop() {
		for _, do := range prepare { // not timed
			do()
		}
		start := time.Now()
		floor()
		middle := time.Now()
		call()
		low += middle.Sub(start)
		high += time.Since(middle)
	}
	n := time.Duration(b.N)
	b.ReportMetric(0, "ns/op") // of both together: means nothing
	b.ReportMetric(float64(high/n)/1e6, "call-ms")
	b.ReportMetric(float64(low/n)/1e6, "floor-ms")
	b.ReportMetric(float64(high)/float64(low), "×floor")
}

// One forked call against /bin/true, forked in the same way.
func BenchmarkFork(b *testing.B) {
	p := newBench(b)
	nothing := func() {
		c := exec.Command("/bin/true", "--json")
		c.Stdin = strings.NewReader("{}")
		if _, err := c.Output(); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Plugin.query", func(b *testing.B) {
		paired(b, nothing, func() { p.call(smapi.PluginQuery{}, nil) })
	})
	for _, kind := range []string{"btrfs", "xfs"} {
		b.Run("Volume.stat/"+kind, func(b *testing.B) {
			p.b = b
			s := p.sr(kind, nil)
			v := s.create()
			paired(b, nothing, func() { p.call(smapi.VolumeStat{SR: s.handle, Key: v.Key}, nil) })
		})
	}
}

// Calls that change the SR, against what cannot be avoided: one FICLONE by bare
// ioctl, fsync of the clone, fsync of the directory.
func BenchmarkCalls(b *testing.B) {
	p := newBench(b)
	for _, kind := range []string{"btrfs", "xfs"} {
		b.Run(kind, func(b *testing.B) {
			p.b = b
			s := p.sr(kind, nil)
			v := s.create()
			s.fill(v)
			clone := smapi.VolumeClone{SR: s.handle, Key: v.Key}
			var spare benchVolume
			for _, m := range []struct {
				name string
				call func()
			}{
				{"create", func() { s.create() }},
				{"snapshot", func() { p.call(smapi.VolumeSnapshot{SR: s.handle, Key: v.Key}, nil) }},
				{"clone", func() { p.call(clone, nil) }},
				{"set_name", func() { p.call(smapi.VolumeSetName{SR: s.handle, Key: v.Key, NewName: "x"}, nil) }},
				{"destroy", func() { p.call(smapi.VolumeDestroy{SR: s.handle, Key: spare.Key}, nil) }},
			} {
				b.Run("Volume."+m.name, func(b *testing.B) {
					p.b = b
					floor := s.floor(v)
					paired(b, floor, m.call, func() {
						if m.name == "destroy" {
							p.call(clone, &spare)
						}
					})
				})
			}
		})
	}
}

// fill writes 64 MiB into a volume's file.
func (s *benchSR) fill(v benchVolume) {
	f, err := os.OpenFile(filepath.Join(s.fs.Dir, v.Key), os.O_RDWR, 0)
	if err != nil {
		s.b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte("x"), 64<<20)); err != nil {
		s.b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		s.b.Fatal(err)
	}
}

func (s *benchSR) floor(v benchVolume) func() {
	b := s.b
	dir, err := os.Open(s.fs.Dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { dir.Close() })
	src, err := os.Open(filepath.Join(s.fs.Dir, v.Key))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { src.Close() })
	attrs, err := reflink.AttributesOf(src)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	return func() {
		n++
		name := filepath.Join(s.fs.Dir, fmt.Sprintf("floor-%s-%d", filepath.Base(b.Name()), n))
		dst, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range []error{attrs.Apply(dst), unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())), dst.Sync(), dir.Sync(), dst.Close()} {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Cleanup(func() { os.Remove(name) })
	}
}

// The four calls by which a guest gets a disk and gives it back, against as many starts of /bin/true, with and without loop
// devices of others on the host.
func BenchmarkDatapath(b *testing.B) {
	p := newBench(b)
	for _, kind := range []string{"btrfs", "xfs"} {
		for _, foreign := range []int{0, 50} {
			b.Run(fmt.Sprintf("%s/%d", kind, foreign), func(b *testing.B) {
				p.b = b
				s := p.sr(kind, nil)
				v := s.create()
				bindForeign(b, foreign)
				paired(b, func() {
					for range 4 {
						c := exec.Command("/bin/true", "--json")
						c.Stdin = strings.NewReader("{}")
						if _, err := c.Output(); err != nil {
							b.Fatal(err)
						}
					}
				}, func() {
					p.call(smapi.DatapathAttach{URI: v.URI[0], Domain: "1"}, nil)
					p.call(smapi.DatapathActivate{URI: v.URI[0], Domain: "1"}, nil)
					p.call(smapi.DatapathDeactivate{URI: v.URI[0], Domain: "1"}, nil)
					p.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "1"}, nil)
				})
			})
		}
	}
}

// bindForeign binds n loop devices to files that are nobody's.
func bindForeign(b *testing.B, n int) {
	b.Helper()
	dir := b.TempDir()
	for i := range n {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint("foreign", i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(1 << 20); err != nil {
			b.Fatal(err)
		}
		d, err := loop.Attach(loop.Config{File: f, SectorSize: 512})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { d.Detach() })
	}
}

// children is the processor time of the processes that this one has started and seen end.
func children(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// SR.ls of many volumes, against reading the directory and each record once, in
// this process.
func BenchmarkLs(b *testing.B) {
	p := newBench(b)
	for _, kind := range []string{"btrfs", "xfs"} {
		for _, n := range []int{0, 100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				p.b = b
				s := p.sr(kind, nil)
				s.plant(n)
				before, calls := children(b), 0
				defer func() { b.ReportMetric(float64((children(b)-before).Milliseconds())/float64(calls), "call-cpu-ms") }()
				paired(b, func() {
					names, err := filepath.Glob(s.fs.Dir + "/*.inf")
					if err != nil || len(names) != n {
						b.Fatalf("%d names, %v", len(names), err)
					}
					for _, name := range names {
						if _, err := os.ReadFile(name); err != nil {
							b.Fatal(err)
						}
					}
				}, func() {
					calls++
					var all []json.RawMessage
					p.call(smapi.SRLs{SR: s.handle}, &all)
					if len(all) != n {
						b.Fatalf("%d volumes, want %d", len(all), n)
					}
				})
			})
		}
	}
}

// plant copies one volume's files n times, which is faster than creating as many.
func (s *benchSR) plant(n int) {
	if n == 0 {
		return
	}
	first := filepath.Join(s.fs.Dir, s.create().Key)
	record, err := os.ReadFile(first + ".inf")
	if err != nil {
		s.b.Fatal(err)
	}
	for range n - 1 {
		key, err := sr.NewKey()
		if err != nil {
			s.b.Fatal(err)
		}
		path := filepath.Join(s.fs.Dir, string(key))
		for _, err := range []error{os.WriteFile(path, nil, 0o600), os.Truncate(path, 64<<20), os.WriteFile(path+".inf", record, 0o600)} {
			if err != nil {
				s.b.Fatal(err)
			}
		}
	}
}

// Attach and detach as two calls, against losetup twice where it is installed.
func BenchmarkAttachDetach(b *testing.B) {
	p := newBench(b)
	losetup, err := exec.LookPath("losetup")
	if err != nil {
		b.Skip("losetup, the floor, is not installed")
	}
	for _, kind := range []string{"btrfs", "xfs"} {
		b.Run(kind, func(b *testing.B) {
			p.b = b
			s := p.sr(kind, nil)
			v, other := s.create(), s.create()
			paired(b, func() {
				out, err := exec.Command(losetup, "-f", "--show", filepath.Join(s.fs.Dir, other.Key)).Output()
				if err != nil {
					b.Fatal(err)
				}
				if err := exec.Command(losetup, "-d", strings.TrimSpace(string(out))).Run(); err != nil {
					b.Fatal(err)
				}
			}, func() {
				p.call(smapi.DatapathAttach{URI: v.URI[0], Domain: "1"}, nil)
				p.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "1"}, nil)
			})
		})
	}
}
