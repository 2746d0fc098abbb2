package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/rrd"
	"reflinksr/scripts/tests"
)

// What a reading costs in processor time, every five seconds: with the guests as they were, and when xenstore has told of a change.
func BenchmarkReading(b *testing.B) {
	tests.Root(b, "disks")
	for _, disks := range []int{1, 100} {
		b.Run(fmt.Sprint(disks), func(b *testing.B) {
			h := newHost(b)
			h.makeSR()
			h.startStore()
			for i := range disks {
				domain := strconv.Itoa(i + 1)
				h.backend(domain, fmt.Sprintf("0e4b1f0a-4b1c-4d8e-9a53-%012d", i), "xvda", h.plug(domain))
			}
			for _, changed := range []bool{false, true} {
				b.Run(map[bool]string{false: "same", true: "changed"}[changed], func(b *testing.B) {
					g := newGatherer([]string{h.xen})
					defer g.close()
					f, err := rrd.CreateFile(filepath.Join(h.metrics, uid), time.Now())
					h.must(err)
					defer f.Remove()
					var before, after unix.Rusage
					unix.Getrusage(unix.RUSAGE_SELF, &before)
					for b.Loop() {
						if changed {
							g.guests = nil
						}
						all, err := g.gather(context.Background())
						if err == nil {
							err = f.Write(time.Now(), all)
						}
						if err != nil || len(all) != 14*(disks+1) {
							b.Fatal(len(all), err)
						}
					}
					unix.Getrusage(unix.RUSAGE_SELF, &after)
					spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
					b.ReportMetric(float64(spent)/1e3/float64(b.N), "cpu-µs/op")
				})
			}
			h.startRRDD()
			h.start()
			h.await("all disks", func(g graphs) bool { return len(g) == 14*(disks+1) })
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.process.Process.Pid))
			h.must(err)
			for line := range strings.Lines(string(status)) {
				if rest, is := strings.CutPrefix(line, "VmRSS:"); is {
					b.Log("memory of the test binary as the service:", strings.TrimSpace(rest))
				}
			}
			h.end()
		})
	}
}
