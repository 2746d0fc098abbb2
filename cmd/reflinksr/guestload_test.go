package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestLoad is what a guest asks of a disk: requests of one size, so many at once.
type guestLoad struct {
	name       string
	write      bool
	size       int // bytes of a request
	depth      int // requests under way at once
	sequential bool
	sync       bool // each write is followed by a flush
}

var guestLoads = []guestLoad{
	{name: "read-4k-depth-16", size: 4 << 10, depth: 16},
	{name: "read-4k-depth-1", size: 4 << 10, depth: 1},
	{name: "read-256k-in-order", size: 256 << 10, depth: 4, sequential: true},
	{name: "write-4k-depth-16", write: true, size: 4 << 10, depth: 16},
	{name: "write-4k-fsync", write: true, size: 4 << 10, depth: 1, sync: true},
	{name: "write-4k-fsync-depth-16", write: true, size: 4 << 10, depth: 16, sync: true},
	{name: "write-256k-in-order", write: true, size: 256 << 10, depth: 4, sequential: true},
}

// served is how a disk served a load.
type served struct {
	requests int
	took     time.Duration
	p99      time.Duration
}

func (s served) rate() float64 { return float64(s.requests) / s.took.Seconds() }

// together are several runs as one; its p99 is the median of theirs.
func together(runs []served) (all served) {
	var p99 []time.Duration
	for _, r := range runs {
		all.requests += r.requests
		all.took += r.took
		p99 = append(p99, r.p99)
	}
	slices.Sort(p99)
	all.p99 = p99[len(p99)/2]
	return all
}

// run puts the load on a file or a device, past this host's page cache, for a while.
func (l guestLoad) run(path string, size int64, long time.Duration) (served, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return served{}, err
	}
	defer f.Close()
	blocks := size / int64(l.size)
	var next atomic.Int64
	next.Store(rand.Int64N(blocks))
	took := make([][]time.Duration, l.depth)
	failed := make([]error, l.depth)
	start := time.Now()
	var all sync.WaitGroup
	for worker := range l.depth {
		all.Go(func() {
			took[worker], failed[worker] = l.work(f, start.Add(long), func() int64 {
				if l.sequential {
					return next.Add(1) % blocks * int64(l.size)
				}
				return rand.Int64N(blocks) * int64(l.size)
			})
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	for _, err := range failed {
		if err != nil {
			return served{}, err
		}
	}
	each := slices.Concat(took...)
	slices.Sort(each)
	return served{len(each), elapsed, each[len(each)*99/100]}, nil
}

// work makes one request after the other until the end, and tells how long each took.
func (l guestLoad) work(f *os.File, end time.Time, place func() int64) (took []time.Duration, err error) {
	buffer, err := unix.Mmap(-1, 0, l.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(buffer)
	for i := range buffer {
		buffer[i] = byte(rand.Uint32())
	}
	for begun := time.Now(); begun.Before(end) || len(took) == 0; {
		if l.write {
			_, err = f.WriteAt(buffer, place())
		} else {
			_, err = f.ReadAt(buffer, place())
		}
		if err == nil && l.sync {
			err = f.Sync()
		}
		if err != nil {
			return nil, err
		}
		now := time.Now()
		took = append(took, now.Sub(begun))
		begun = now
	}
	return took, nil
}

// runFio is run by fio, with asynchronous I/O in one process.
func (l guestLoad) runFio(path string, size int64, long time.Duration) (s served, err error) {
	how := map[[2]bool]string{{false, false}: "randread", {false, true}: "read", {true, false}: "randwrite", {true, true}: "write"}
	args := []string{"--name=guest", "--output-format=json", "--allow_file_create=0", "--direct=1", "--ioengine=libaio", "--time_based", "--norandommap", "--randrepeat=0",
		"--filename=" + path, "--rw=" + how[[2]bool{l.write, l.sequential}],
		fmt.Sprintf("--bs=%d", l.size), fmt.Sprintf("--iodepth=%d", l.depth), fmt.Sprintf("--size=%d", size), fmt.Sprintf("--runtime=%dms", long.Milliseconds())}
	if l.sync {
		args = append(args, "--fsync=1")
	}
	out, err := exec.Command("fio", args...).Output()
	if err != nil {
		return s, fmt.Errorf("fio: %w: %s", err, out)
	}
	type direction struct {
		Requests int `json:"total_ios"`
		Runtime  int `json:"runtime"` // ms
		Latency  struct {
			Percentile map[string]int64 `json:"percentile"` // ns
		} `json:"clat_ns"`
	}
	var answer struct {
		Jobs []struct{ Read, Write direction }
	}
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.Jobs) != 1 {
		return s, fmt.Errorf("fio answered %s: %w", out, err)
	}
	d := answer.Jobs[0].Read
	if l.write {
		d = answer.Jobs[0].Write
	}
	return served{d.Requests, time.Duration(d.Runtime) * time.Millisecond, time.Duration(d.Latency.Percentile["99.000000"])}, nil
}

// cachedBytes is how much of a file this host's page cache holds.
func cachedBytes(tb testing.TB, path string) (n int64) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Munmap(pages)
	resident := make([]byte, (len(pages)+os.Getpagesize()-1)/os.Getpagesize())
	if err := mincore(pages, resident); err != nil {
		tb.Fatal(err)
	}
	for _, r := range resident {
		if r&1 != 0 {
			n += int64(os.Getpagesize())
		}
	}
	return n
}
