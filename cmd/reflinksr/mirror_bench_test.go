package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
	"reflinksr/scripts/scratch"
)

var mirrorData = flag.Int("mirror.mib", 1024, "MiB of data of a disk that is mirrored away by BenchmarkMirroredAway")

// What a migration of a disk to another SR of this host costs: how long its last round takes, while which the guest stands still, against how much the guest
// writes; what its longest write is while it goes, against that of as long a time before; and how fast the first round is. Beside it in the same run qemu-img sends
// the same disk to the same server, and to nbdkit's.
func BenchmarkMirroredAway(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("mounting filesystems needs root")
	}
	root := install(b)
	for _, kind := range []string{"btrfs", "xfs"} {
		for _, rate := range []int{0, 100, 1000, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%d", kind, rate), func(b *testing.B) {
				r := &receiver{TB: b, Plugin: calls(root, "mirrored away"), rand: rand.New(rand.NewPCG(1, 1))}
				fs, err := scratch.Make(kind, 16<<30, b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { fs.Remove() })
				r.makeSR(fs.Dir)
				defer func() { r.call(smapi.SRDetach{SR: r.sr}, nil) }()
				for range b.N {
					r.timeAway(b, rate)
				}
			})
		}
	}
}

func (r *receiver) timeAway(b *testing.B, rate int) {
	size := int64(*mirrorData) << 20
	var disk, leaf smapi.Volume
	var backend smapi.Backend
	r.call(smapi.VolumeCreate{SR: r.sr, Name: "disk", Size: size}, &disk)
	r.call(smapi.VolumeCreate{SR: r.sr, Name: "leaf", Size: size}, &leaf)
	r.call(smapi.DatapathAttach{URI: disk.URI[0], Domain: "5"}, &backend)
	r.call(smapi.DatapathActivate{URI: disk.URI[0], Domain: "5"}, nil)
	path := backend.Path()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	piece := alignedBytes(1 << 20)
	for at := int64(0); at < size; at += int64(len(piece)) {
		for i := range piece {
			piece[i] = byte(r.rand.Uint32())
		}
		if _, err := f.WriteAt(piece, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	serve := func() (socket string, end func()) {
		r.call(smapi.DatapathAttach{URI: leaf.URI[0], Domain: "MIR00ff00"}, &backend)
		r.call(smapi.DatapathActivate{URI: leaf.URI[0], Domain: "MIR00ff00"}, nil)
		socket, _, _ = strings.Cut(strings.TrimPrefix(backend.Implementations[len(backend.Implementations)-1].Nbd.URI, "nbd:unix:"), ":")
		return socket, func() { r.call(smapi.DatapathDetach{URI: leaf.URI[0], Domain: "MIR00ff00"}, nil) }
	}
	perSecond := func(name string, began time.Time) {
		b.ReportMetric(float64(size)/1e6/time.Since(began).Seconds(), name+"-MB/s")
	}
	if rate == 0 {
		socket, end := serve()
		for _, to := range []struct{ name, address string }{{"qemu-img-to-srnbd", "nbd+unix:///" + leaf.Key + "?socket=" + socket}, {"qemu-img-to-nbdkit", ""}} {
			if to.address == "" {
				end()
				dir := b.TempDir()
				file := filepath.Join(filepath.Dir(strings.TrimPrefix(strings.Split(r.sr, "?")[0], "file://")), "nbdkit.raw")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					b.Fatal(err)
				}
				if err := os.Truncate(file, size); err != nil {
					b.Fatal(err)
				}
				server := exec.Command("nbdkit", "-f", "-U", dir+"/s", "file", file)
				if err := server.Start(); err != nil {
					b.Log("no nbdkit")
					continue
				}
				defer func() { server.Process.Kill(); server.Wait(); os.Remove(file) }()
				for _, err := os.Stat(dir + "/s"); err != nil; _, err = os.Stat(dir + "/s") {
					time.Sleep(10 * time.Millisecond)
				}
				to.address = "nbd+unix:///?socket=" + dir + "/s"
			}
			began := time.Now()
			if out, err := exec.Command("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-T", "none", "-t", "writeback", path, to.address).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			perSecond(to.name, began)
		}
		r.call(smapi.VolumeDestroy{SR: r.sr, Key: leaf.Key}, nil)
		r.call(smapi.VolumeCreate{SR: r.sr, Name: "leaf", Size: size}, &leaf)
	}
	g := &steadyWriter{f: f, size: size, rate: rate}
	before := g.during(func() { time.Sleep(10 * time.Second) })
	socket, end := serve()
	var mirror smapi.Operation
	began := time.Now()
	while := g.during(func() {
		r.call(smapi.DataMirror{URI: disk.URI[0], Domain: "5", Remote: "nbd+unix:///" + leaf.Key + "?socket=" + socket}, &mirror)
		for complete := false; !complete; {
			var status smapi.Status
			if err := r.Do(context.Background(), smapi.DataStat{Operation: mirror}, &status); err != nil || status.Failed {
				b.Fatal("the mirror has failed", err)
			}
			complete = status.Complete
		}
		perSecond("mirror", began)
		time.Sleep(10 * time.Second) // some rounds
	})
	began = time.Now()
	r.call(smapi.DatapathDeactivate{URI: disk.URI[0], Domain: "5"}, nil)
	b.ReportMetric(float64(time.Since(began).Milliseconds()), "stands-still-ms")
	b.ReportMetric(float64(before.longest.Microseconds())/1000, "longest-write-before-ms")
	b.ReportMetric(float64(while.longest.Microseconds())/1000, "longest-write-while-ms")
	b.ReportMetric(float64(before.writes)/before.took.Seconds(), "writes-before/s")
	b.ReportMetric(float64(while.writes)/while.took.Seconds(), "writes-while/s")
	f.Close()
	r.call(smapi.DatapathDetach{URI: disk.URI[0], Domain: "5"}, nil)
	end()
	r.call(smapi.VolumeDestroy{SR: r.sr, Key: leaf.Key}, nil)
	r.call(smapi.VolumeDestroy{SR: r.sr, Key: disk.Key}, nil)
}

func alignedBytes(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	return b
}

// steadyWriter is a guest that writes 4 KiB at random places, so many times a second, or as often as it can.
type steadyWriter struct {
	f    *os.File
	size int64
	rate int
}

type felt struct {
	writes  int
	longest time.Duration
	took    time.Duration
}

func (w *steadyWriter) during(do func()) (f felt) {
	began := time.Now()
	if w.rate == 0 {
		do()
		return felt{took: time.Since(began)}
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		piece := alignedBytes(4096)
		for next := time.Now(); ; next = next.Add(time.Second / time.Duration(w.rate)) {
			select {
			case <-stop:
				return
			case <-time.After(time.Until(next)):
			}
			if late := time.Since(next); late > 10*time.Millisecond {
				next = time.Now() // it does not catch up
			}
			start := time.Now()
			if _, err := w.f.WriteAt(piece, rand.Int64N(w.size/4096)*4096); err != nil {
				panic(err)
			}
			f.longest = max(f.longest, time.Since(start))
			f.writes++
		}
	})
	do()
	close(stop)
	all.Wait()
	f.took = time.Since(began)
	return f
}
