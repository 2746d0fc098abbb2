package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/internal/datastore"
)

// fillDisk makes a disk of so many bytes of which so many are data, in pieces of 1 MiB.
func fillDisk(b *testing.B, path string, size, data int64) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i*7 + 1)
	}
	step := size / (data >> 20)
	for at := int64(0); at < size; at += step {
		if _, err := f.WriteAt(piece, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

// A clone of a disk of 10 GiB of which 2 GiB are written, in 2048 places.
func BenchmarkClone(b *testing.B) {
	for _, fs := range []string{"btrfs", "xfs"} {
		b.Run(fs, func(b *testing.B) {
			location := cloud(b, fs, 8<<30)
			image := filepath.Join(location, "101", "image")
			fillDisk(b, image, 10<<30, 2<<30)
			for i := 0; b.Loop(); i++ {
				_, err := task{Do: "clone", From: image, Snapshot: -1, To: filepath.Join(location, fmt.Sprintf("100/%d/disk.0", i))}.run(context.Background())
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An increment of a disk of 100 GiB of which 1 GiB has changed, in 1024 places: the reading and writing of that included.
func BenchmarkIncrement(b *testing.B) {
	for _, fs := range []string{"btrfs", "xfs"} {
		b.Run(fs, func(b *testing.B) {
			location := cloud(b, fs, 16<<30)
			guest := filepath.Join(location, "100", "42")
			if err := os.Mkdir(guest, 0o755); err != nil {
				b.Fatal(err)
			}
			disk := filepath.Join(guest, "disk.0")
			fillDisk(b, disk, 100<<30, 2<<30)
			n := 0
			increment := func() {
				m, err := datastore.Moments(context.Background(), guest, []datastore.Backup{{Disk: 0, Increment: n, Format: "raw"}})
				if err == nil {
					err = m.Write(context.Background(), filepath.Join(guest, "backup"), nil)
				}
				if err != nil {
					b.Fatal(err)
				}
				m.Close()
				n++
			}
			increment()
			for b.Loop() {
				b.StopTimer()
				fillDisk(b, disk, 100<<30, 1<<30)
				b.StartTimer()
				increment()
			}
		})
	}
}
