package cbt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

var benchExtents = flag.Int("changed.extents", 100_000, "extents of the largest disk of the benchmarks; a million takes minutes to make")

// benchDisk is a volume of which every block of 64 KiB has one extent of 4 KiB.
type benchDisk struct {
	*bed
	key     sr.Key
	extents int
	written byte
}

func newBenchDisk(tb testing.TB, b *bed, extents int) *benchDisk {
	tb.Helper()
	v, err := volume.Create(b.handle, "disk", "", int64(extents)*granularity, false)
	if err == nil {
		err = EnableCBT(b.handle, v.Key)
	}
	if err != nil {
		tb.Fatal(err)
	}
	d := &benchDisk{bed: b, key: v.Key, extents: extents}
	d.write(tb, 1)
	return d
}

// write gives every step'th extent other contents, and so another place.
func (d *benchDisk) write(tb testing.TB, step int) {
	tb.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, string(d.key)), os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	d.written++
	data := bytes.Repeat([]byte{d.written}, 4096)
	for i := 0; i < d.extents; i += step {
		if _, err := f.WriteAt(data, int64(i)*granularity); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		tb.Fatal(err)
	}
}

func (d *benchDisk) snapshot(tb testing.TB) sr.Key {
	tb.Helper()
	v, err := snapshot.Snapshot(d.handle, d.key)
	if err != nil {
		tb.Fatal(err)
	}
	return v.Key
}

// changed counts the blocks that list_changed_blocks tells of.
func (d *benchDisk) changed(tb testing.TB, since sr.Key) (n int) {
	tb.Helper()
	c, err := ListChangedBlocks(context.Background(), d.handle, since, d.key, 0, -1)
	if err != nil {
		tb.Fatal(err)
	}
	bitmap, err := base64.StdEncoding.DecodeString(c.Bitmap)
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range bitmap {
		n += bits.OnesCount8(b)
	}
	return n
}

// readBoth counts the blocks that differ by reading what either file has, as one does
// who has no changed blocks. Its data is not in the page cache of these files.
func (d *benchDisk) readBoth(tb testing.TB, since sr.Key) (n int) {
	tb.Helper()
	var files [2]*os.File
	for i, key := range []sr.Key{since, d.key} {
		f, err := os.Open(filepath.Join(d.dir, string(key)))
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close()
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			tb.Fatal(err)
		}
		files[i] = f
	}
	x, y := make([]byte, granularity), make([]byte, granularity)
	for at := int64(0); ; at += granularity {
		next := int64(endless)
		for _, f := range files {
			data, err := f.Seek(at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				continue
			}
			if err != nil {
				tb.Fatal(err)
			}
			next = min(next, data)
		}
		if next == endless {
			return n
		}
		at = next / granularity * granularity
		for i, b := range [][]byte{x, y} {
			if _, err := files[i].ReadAt(b, at); err != nil {
				tb.Fatal(err)
			}
		}
		if !bytes.Equal(x, y) {
			n++
		}
	}
}

// peak answers how much more heap a call had at a time than there was before.
func peak(do func()) (bytes uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 { metrics.Read(sample); return sample[0].Value.Uint64() }
	runtime.GC()
	before := read()
	stop, done := make(chan bool), make(chan uint64)
	go func() {
		most := uint64(0)
		for {
			most = max(most, read())
			select {
			case <-stop:
				done <- max(most, read())
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	do()
	close(stop)
	return max(<-done, before) - before
}

func benchLayouts(do func(l diskLayout)) {
	for _, l := range layouts {
		if l.name == "btrfs" || l.name == "xfs" {
			do(l)
		}
	}
}

// What has changed since a snapshot, against reading both disks; then the destruction of
// the snapshot's data, and the same question again.
func BenchmarkChangedBlocks(b *testing.B) {
	benchLayouts(func(l diskLayout) {
		for extents := 1000; extents <= *benchExtents; extents *= 10 {
			if extents == 10_000 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", l.name, extents), func(b *testing.B) {
				bed := newBed(b, l, 2<<30+int64(extents)*40<<10)
				d := newBenchDisk(b, bed, extents)
				for _, percent := range []int{1, 10, 100} {
					b.Run(fmt.Sprintf("%d%%", percent), func(b *testing.B) { d.bench(b, percent) })
				}
			})
		}
	})
}

func (d *benchDisk) bench(b *testing.B, percent int) {
	since := d.snapshot(b)
	defer func() {
		if err := Destroy(d.handle, since); err != nil {
			b.Fatal(err)
		}
	}()
	d.write(b, 100/percent)
	want := d.extents * percent / 100
	var listing, reading time.Duration
	var heap uint64
	for b.Loop() {
		start := time.Now()
		heap = max(heap, peak(func() {
			if n := d.changed(b, since); n != want {
				b.Fatalf("%d blocks have changed, not %d", n, want)
			}
		}))
		middle := time.Now()
		if n := d.readBoth(b, since); n != want {
			b.Fatalf("%d blocks differ, not %d", n, want)
		}
		listing += middle.Sub(start)
		reading += time.Since(middle)
	}
	n := time.Duration(b.N)
	b.ReportMetric(0, "ns/op") // of both together: means nothing
	b.ReportMetric(float64(listing/n)/1e6, "list-ms")
	b.ReportMetric(float64(reading/n)/1e6, "read-ms")
	b.ReportMetric(float64(reading)/float64(listing), "×")
	b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")

	start := time.Now()
	heap = peak(func() {
		if err := DestroyData(d.handle, since); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(time.Since(start))/1e6, "destroy-ms")
	b.ReportMetric(float64(heap)/(1<<20), "destroy-heap-MiB")
	start = time.Now()
	if n := d.changed(b, since); n != want {
		b.Fatalf("%d blocks have changed since the destroyed snapshot, not %d", n, want)
	}
	b.ReportMetric(float64(time.Since(start))/1e6, "destroyed-list-ms")
}

// A snapshot by the number of extents of the disk, while somebody writes to it: how long
// it takes and the longest that one write has to wait, against reading the disk once, the
// least that a copy would do.
func BenchmarkSnapshot(b *testing.B) {
	benchLayouts(func(l diskLayout) {
		for extents := 1000; extents <= *benchExtents; extents *= 10 {
			b.Run(fmt.Sprintf("%s/%d", l.name, extents), func(b *testing.B) {
				bed := newBed(b, l, 2<<30+int64(extents)*40<<10)
				newBenchDisk(b, bed, extents).benchSnapshot(b)
			})
		}
	})
}

func (d *benchDisk) benchSnapshot(b *testing.B) {
	var taking, ending, reading, stall time.Duration
	for b.Loop() {
		longest, stop := make(chan time.Duration), make(chan bool)
		go d.longestWrite(b, stop, longest)
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		key := d.snapshot(b)
		taking += time.Since(start)
		close(stop)
		stall = max(stall, <-longest)
		start = time.Now()
		d.readBoth(b, d.key) // twice
		reading += time.Since(start) / 2
		start = time.Now()
		if err := Destroy(d.handle, key); err != nil {
			b.Fatal(err)
		}
		ending += time.Since(start)
	}
	n := time.Duration(b.N)
	b.ReportMetric(0, "ns/op") // of all together: means nothing
	b.ReportMetric(float64(taking/n)/1e6, "snapshot-ms")
	b.ReportMetric(float64(taking/n)/1e3/float64(d.extents), "µs/extent")
	b.ReportMetric(float64(stall)/1e6, "stall-ms")
	b.ReportMetric(float64(ending/n)/1e6, "destroy-ms")
	b.ReportMetric(float64(reading/n)/1e6, "read-ms")
}

// longestWrite writes to the first block of the disk, as a guest would, until it is told
// to stop, and tells how long the slowest write took.
func (d *benchDisk) longestWrite(tb testing.TB, stop chan bool, longest chan time.Duration) {
	var slowest time.Duration
	defer func() { longest <- slowest }()
	f, err := os.OpenFile(filepath.Join(d.dir, string(d.key)), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		tb.Error(err)
		return
	}
	defer f.Close()
	data, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS) // aligned
	if err != nil {
		tb.Error(err)
		return
	}
	defer unix.Munmap(data)
	for {
		select {
		case <-stop:
			return
		default:
		}
		start := time.Now()
		if _, err := f.WriteAt(data, 0); err != nil {
			tb.Error(err)
			return
		}
		slowest = max(slowest, time.Since(start))
	}
}

// allocated answers how many bytes a call allocated, which is no less than what it held
// at a time.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Memory hardly grows with the number of extents: ten million of them stay below 64 MiB,
// also of a list of what is freed of them.
func TestMemoryIsBounded(t *testing.T) {
	const few, many = 500, 20_000
	benchLayouts(func(l diskLayout) {
		t.Run(l.name, func(t *testing.T) {
			b := newBed(t, l, 2<<30)
			var used [2]map[string]uint64
			for i, extents := range []int{few, many} {
				d := newBenchDisk(t, b, extents)
				since := d.snapshot(t)
				d.write(t, 2)
				used[i] = map[string]uint64{
					"changed blocks": allocated(func() {
						if n := d.changed(t, since); n != extents/2 {
							t.Errorf("%d blocks have changed", n)
						}
					}),
					"ranges": allocated(func() {
						list, err := Compare(context.Background(), d.handle, since, d.key)
						if err != nil || len(list.Ranges) != extents/2 {
							t.Errorf("%d ranges, %v", len(list.Ranges), err)
						}
					}),
					"usage": allocated(func() {
						f, err := os.Open(filepath.Join(d.dir, string(d.key)))
						if err != nil {
							t.Fatal(err)
						}
						defer f.Close()
						if u, err := extent.UsageOf(f); err != nil || u.Extents != extents {
							t.Errorf("%+v, %v", u, err)
						}
					}),
					"destruction": allocated(func() {
						if err := DestroyData(d.handle, since); err != nil {
							t.Error(err)
						}
					}),
				}
			}
			t.Logf("bytes allocated for %d extents: %v", few, used[0])
			t.Logf("bytes allocated for %d extents: %v", many, used[1])
			// The bitmap, of a bit for 64 KiB, and its text; 16 bytes for a range and what
			// appending throws away, of which there are at most rangeLimit; of every second
			// extent some bytes for a run, more than once. What a volume occupies on btrfs is asked of whole
			// extents, which may be used in several places of a file: each is remembered.
			usage := 0.5
			if strings.HasPrefix(l.name, "btrfs") {
				usage = 150
			}
			for what, limit := range map[string]float64{"changed blocks": 4, "ranges": 16 * 4, "usage": usage, "destruction": 12} {
				if each := (float64(used[1][what]) - float64(used[0][what])) / (many - few); each > limit {
					t.Errorf("%s: %.1f bytes for each extent more, at most %v are expected", what, each, limit)
				}
			}
		})
	})
}
