package precopy

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/reflink"
)

var benchExtents = flag.Int64("precopy.extents", 10_000, "extents of the largest disk of the benchmark; a million takes minutes to make, and 5 GB")

// What a guest feels of a snapshot of its disk: the longest of its writes in a while without one (control-ms), while
// FICLONE clones it (ficlone-ms), in pieces (pieces-ms), and in pieces from an earlier clone of which one extent in 250
// differs (again-ms). …-s is how long each takes.
func BenchmarkGuest(b *testing.B) {
	for _, s := range []struct {
		name, kind      string
		noCOW, directIO bool
	}{{"btrfs", "btrfs", true, true}, {"btrfs-datacow", "btrfs", false, false}, {"xfs", "xfs", false, true}, {"xfs-buffered", "xfs", false, false}} {
		for _, rate := range []int{1000, 0} {
			for n := int64(10_000); n <= *benchExtents; n *= 10 {
				name := fmt.Sprintf("%s/%d/%d-a-second", s.name, n, rate)
				if rate == 0 {
					name = fmt.Sprintf("%s/%d/as-fast-as-it-can", s.name, n)
				}
				b.Run(name, func(b *testing.B) {
					d, device := inUseOf(b, s.kind, setting{n, s.noCOW, s.directIO})
					for b.Loop() {
						benchGuest(b, d, device, n, rate)
					}
				})
			}
		}
	}
}

func benchGuest(b *testing.B, d Disk, device *os.File, extents int64, rate int) {
	have, err := extent.Count(d.File)
	if err != nil {
		b.Fatal(err)
	}
	g := newGuest(b, device.Name(), 2*extents, rate)
	defer g.stop()
	time.Sleep(time.Second) // the first look at every extent reads it
	control := g.during(func() { time.Sleep(5 * time.Second) })
	at := target(b, d)
	ficlone := g.during(func() {
		started := time.Now()
		if err := reflink.CloneFile(at, d.File); err != nil {
			b.Error(err)
		}
		d.Stall = time.Since(started)
		if err := at.Sync(); err != nil {
			b.Error(err)
		}
	})
	settle(b, at)
	pieces, first := g.take(b, d, nil)
	for i := int64(0); i < extents; i += 250 {
		write(b, device, 2*i)
	}
	settle(b, at)
	again, second := g.take(b, d, first.file)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	b.ReportMetric(0, "ns/op") // of all together: means nothing
	b.ReportMetric(float64(have), "extents")
	b.ReportMetric(ms(control.longest), "control-ms")
	b.ReportMetric(ms(ficlone.longest), "ficlone-ms")
	b.ReportMetric(ms(pieces.longest), "pieces-ms")
	b.ReportMetric(ms(again.longest), "again-ms")
	b.ReportMetric(ficlone.took.Seconds(), "ficlone-s")
	b.ReportMetric(pieces.took.Seconds(), "pieces-s")
	b.ReportMetric(again.took.Seconds(), "again-s")
	b.ReportMetric(ms(first.P99), "clone-p99-ms")
	b.ReportMetric(ms(first.Longest), "clone-longest-ms")
	b.ReportMetric(float64(first.Rounds), "rounds")
	b.ReportMetric(float64(first.Again), "again-blocks")
	b.ReportMetric(float64(second.Differ), "differ")
	b.ReportMetric(100*pieces.rate/control.rate, "iops-%")
}

type takenClone struct {
	Result
	file *os.File
}

// take clones the disk in pieces, and makes that durable, as a call does.
func (g *guest) take(b *testing.B, d Disk, earlier *os.File) (p period, c takenClone) {
	c.file = target(b, d)
	p = g.during(func() {
		var err error
		if earlier != nil {
			d.Begun = true
			if err = Begin(c.file, earlier); err != nil {
				b.Error(err)
			}
		}
		if c.Result, err = Take(c.file, d); err != nil {
			b.Error(err)
		}
		if err := c.file.Sync(); err != nil {
			b.Error(err)
		}
	})
	settle(b, c.file)
	return p, c
}

// settle has the filesystem commit what it has put off, so that it is not counted for what comes next.
func settle(b *testing.B, f *os.File) {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		b.Error(err)
	}
}

// guest writes to a device, in some threads.
type guest struct {
	end    atomic.Bool
	all    sync.WaitGroup
	lock   sync.Mutex
	writes []finished
}

// finished is a write that has been acknowledged.
type finished struct{ issued, acked time.Time }

func newGuest(b *testing.B, path string, blocks int64, rate int) *guest {
	g := &guest{}
	const writers = 4
	for w := range writers {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			b.Fatal(err)
		}
		g.all.Go(func() {
			defer f.Close()
			random := rand.New(rand.NewPCG(uint64(w), 7))
			data := make([]byte, 8192)
			data = data[4096-int(uintptr(unsafe.Pointer(&data[0]))%4096):][:4096]
			for next := time.Now(); !g.end.Load(); {
				if rate > 0 {
					next = next.Add(time.Duration(random.ExpFloat64() * float64(time.Second) * writers / float64(rate)))
					time.Sleep(time.Until(next))
				}
				one := finished{issued: time.Now()}
				if _, err := f.WriteAt(data, random.Int64N(blocks)*4096); err != nil {
					b.Error(err)
					return
				}
				one.acked = time.Now()
				g.lock.Lock()
				g.writes = append(g.writes, one)
				g.lock.Unlock()
			}
		})
	}
	return g
}

func (g *guest) stop() {
	g.end.Store(true)
	g.all.Wait()
}

// period is what the guest did meanwhile.
type period struct {
	took, longest time.Duration
	rate          float64 // writes a second
}

// during looks at the writes that were under way while do ran.
func (g *guest) during(do func()) (p period) {
	began := time.Now()
	do()
	ended := time.Now()
	time.Sleep(50 * time.Millisecond) // those that were held up are done
	g.lock.Lock()
	defer g.lock.Unlock()
	n := 0
	for _, w := range g.writes {
		if w.issued.Before(ended) && w.acked.After(began) {
			p.longest = max(p.longest, w.acked.Sub(w.issued))
			n++
		}
	}
	g.writes = slices.DeleteFunc(g.writes, func(w finished) bool { return w.acked.Before(ended) })
	p.took = ended.Sub(began)
	p.rate = float64(n) / p.took.Seconds()
	return p
}
