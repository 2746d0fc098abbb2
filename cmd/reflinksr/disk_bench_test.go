package main

import (
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/internal/smapi"
)

const (
	diskSize = 256 << 20              // bytes of a disk, all of them written
	diskTurn = 100 * time.Millisecond // for which the file, and then the device, has the load
)

// diskSettings are the SRs whose disks are compared.
var diskSettings = []struct {
	name string
	kind string // of filesystem
	conf map[string]string
}{
	{"xfs", "xfs", nil},
	{"xfs-sectors-of-4096", "xfs", map[string]string{"sector_size": "4096"}},
	{"btrfs", "btrfs", nil},
	{"btrfs-datacow", "btrfs", map[string]string{"datacow": "on"}},
}

// A guest's disk against a file of the same contents beside it, in turn: ×raw is how much of the file's rate the device
// has, in the median of the rounds. Before the first snapshot, after one, after one and attached again, and at the first writes after one.
func BenchmarkDisk(b *testing.B) {
	p := newBench(b)
	for _, setting := range diskSettings {
		b.Run(setting.name, func(b *testing.B) {
			p.b = b
			s := p.sr(setting.kind, setting.conf)
			d := s.benchDisk()
			b.Run("fresh", d.loads(nil))
			d.snapshot()
			b.Run("after-a-snapshot", d.loads(nil))
			b.Run("first-writes", d.loads(d.snapshot))
			d.detach()
			d.attach()
			b.Run("attached-again", d.loads(nil))
			d.detach()
		})
	}
}

// A loop device that is made by hand, in either way, against its file: what the kernel gives.
func BenchmarkLoop(b *testing.B) {
	p := newBench(b)
	for _, way := range []struct {
		name   string
		sector int
		direct bool
	}{
		{"buffered", 512, false},
		{"direct", 512, true},
		{"direct-sectors-of-4096", 4096, true},
	} {
		b.Run(way.name, func(b *testing.B) {
			p.b = b
			s := p.sr("xfs", nil)
			d := s.benchDisk()
			d.detach()
			f, err := os.OpenFile(d.file, os.O_RDWR, 0)
			if err != nil {
				b.Fatal(err)
			}
			device, err := loop.Attach(loop.Config{File: f, SectorSize: way.sector, DirectIO: way.direct, Name: "benchmark"})
			f.Close()
			if err != nil {
				b.Fatal(err)
			}
			defer device.Detach()
			d.device = device.Path()
			d.loads(nil)(b)
		})
	}
}

// benchDisk is a volume that is attached, and a file like it.
type benchDisk struct {
	*benchSR
	volume benchVolume
	file   string // its data
	raw    string
	device string // "" while it is not attached
	last   string // the newest snapshot
}

func (s *benchSR) benchDisk() *benchDisk {
	d := &benchDisk{benchSR: s, raw: filepath.Join(s.fs.Dir, "raw")}
	s.call(smapi.VolumeCreate{SR: s.handle, Name: "disk", Size: diskSize}, &d.volume)
	d.file = filepath.Join(s.fs.Dir, d.volume.Key)
	d.attach()
	for _, path := range []string{d.raw, d.device} {
		if err := fillWith(path, diskSize); err != nil {
			s.b.Fatal(err)
		}
	}
	return d
}

// fillWith writes random bytes to a file or a device.
func fillWith(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func (d *benchDisk) attach() {
	var answer struct {
		Implementations [][]any `json:"implementations"`
	}
	d.call(smapi.DatapathAttach{URI: d.volume.URI[0], Domain: "1"}, &answer)
	for _, i := range answer.Implementations {
		if about, ok := i[1].(map[string]any); ok && i[0] == "BlockDevice" {
			d.device, _ = about["path"].(string)
		}
	}
	if d.device == "" {
		d.b.Fatalf("no block device in %v", answer)
	}
	d.call(smapi.DatapathActivate{URI: d.volume.URI[0], Domain: "1"}, nil)
}

func (d *benchDisk) detach() {
	d.call(smapi.DatapathDeactivate{URI: d.volume.URI[0], Domain: "1"}, nil)
	d.call(smapi.DatapathDetach{URI: d.volume.URI[0], Domain: "1"}, nil)
	d.device = ""
}

// snapshot takes one of the disk and a clone of the file; those before them go.
func (d *benchDisk) snapshot() {
	var made benchVolume
	d.call(smapi.VolumeSnapshot{SR: d.handle, Key: d.volume.Key}, &made)
	if d.last != "" {
		d.call(smapi.VolumeDestroy{SR: d.handle, Key: d.last}, nil)
	}
	d.last = made.Key
	os.Remove(d.raw + ".clone")
	from, err := os.Open(d.raw)
	if err != nil {
		d.b.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(d.raw + ".clone")
	if err != nil {
		d.b.Fatal(err)
	}
	defer to.Close()
	if err := reflink.CloneFile(to, from); err != nil {
		d.b.Fatal(err)
	}
}

// loads runs every load, by ours and, where it is installed, by fio; before each turn prepare, if any: then only those that write.
func (d *benchDisk) loads(prepare func()) func(*testing.B) {
	return func(b *testing.B) {
		_, noFio := exec.LookPath("fio")
		for _, l := range guestLoads {
			if prepare != nil && !l.write {
				continue
			}
			b.Run(l.name, func(b *testing.B) { d.compare(b, l.run, prepare) })
			if noFio == nil {
				b.Run(l.name+"-fio", func(b *testing.B) { d.compare(b, l.runFio, prepare) })
			}
		}
	}
}

func (d *benchDisk) compare(b *testing.B, run func(string, int64, time.Duration) (served, error), prepare func()) {
	d.b = b
	turns := []struct {
		path string
		had  []served
	}{{path: d.raw}, {path: d.device}}
	for round := 0; b.Loop(); round++ {
		if prepare != nil {
			prepare()
		}
		for i := range turns {
			turn := &turns[(i+round)%2] // neither is always the first
			had, err := run(turn.path, diskSize, diskTurn)
			if err != nil {
				b.Fatal(err)
			}
			turn.had = append(turn.had, had)
		}
	}
	raw, its := together(turns[0].had), together(turns[1].had)
	b.ReportMetric(0, "ns/op") // of both together: means nothing
	var ratios []float64       // of one round each: between rounds the machine may change
	for round := range turns[0].had {
		ratios = append(ratios, turns[1].had[round].rate()/turns[0].had[round].rate())
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "×raw")
	b.ReportMetric(raw.rate(), "raw/s")
	b.ReportMetric(its.rate(), "requests/s")
	b.ReportMetric(float64(raw.p99)/1e6, "raw-p99-ms")
	b.ReportMetric(float64(its.p99)/1e6, "p99-ms")
	b.ReportMetric(float64(cachedBytes(b, d.file))/(1<<20), "cached-MiB")
}

// mincore is mincore(2).
func mincore(pages, resident []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&pages[0])), uintptr(len(pages)), uintptr(unsafe.Pointer(&resident[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
