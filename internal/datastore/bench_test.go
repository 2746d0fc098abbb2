package datastore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if status, again := scratch.Isolate(); again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// dropped is an increment that nobody writes.
type dropped struct{ written int64 }

func (d *dropped) Write(p []byte) (int, error) { d.written += int64(len(p)); return len(p), nil }
func (d *dropped) Zeros(int64) error           { return nil }
func (d *dropped) End() error                  { return nil }

// An increment of a disk of 100 GiB of which 1 % has changed, in 1024 places of 1 MiB: all of it but the writing of what has changed.
func BenchmarkIncrementBesidesWriting(b *testing.B) {
	for _, kind := range []string{"btrfs", "xfs"} {
		b.Run(kind, func(b *testing.B) {
			tests.Root(b, "mounting a filesystem")
			fs, err := scratch.Make(kind, 8<<30, filepath.Join(b.TempDir(), "mnt"))
			if err != nil {
				b.Fatal(err)
			}
			defer fs.Remove()
			guest := filepath.Join(fs.Dir, "100/42")
			if err := os.MkdirAll(guest, 0o755); err != nil {
				b.Fatal(err)
			}
			disk, err := os.Create(filepath.Join(guest, "disk.0"))
			if err != nil {
				b.Fatal(err)
			}
			defer disk.Close()
			if err := disk.Truncate(100 << 30); err != nil {
				b.Fatal(err)
			}
			write := func(places int) {
				piece := make([]byte, 1<<20)
				for i := range piece {
					piece[i] = byte(i*7 + places)
				}
				for i := range places {
					if _, err := disk.WriteAt(piece, int64(i)*(100<<30)/int64(places)/4096*4096); err != nil {
						b.Fatal(err)
					}
				}
				if err := disk.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			write(2048)
			n, ctx := 0, context.Background()
			take := func() *Moment {
				m, err := Moments(ctx, guest, []Backup{{Disk: 0, Increment: n, Format: "raw"}})
				if err != nil {
					b.Fatal(err)
				}
				n++
				return m
			}
			take().Close()
			spent, rounds := time.Duration(0), 0
			for b.Loop() {
				b.StopTimer()
				write(1024)
				before := processor(b)
				b.StartTimer()
				m := take()
				var to dropped
				if err := changes(ctx, &to, m.disks[0].now, m.disks[0].before, 100<<30); err != nil {
					b.Fatal(err)
				}
				if err := m.disks[0].giveUp(); err != nil {
					b.Fatal(err)
				}
				m.Close()
				spent, rounds = spent+processor(b)-before, rounds+1
				if to.written < 1<<30 || to.written > 1<<30+200<<20 {
					b.Fatalf("%d bytes have changed", to.written)
				}
			}
			b.ReportMetric(float64(spent.Milliseconds())/float64(rounds), "ms-of-processor/op") // on a busy machine this is what says something
		})
	}
}

// processor is how long the processors have worked for this process.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
