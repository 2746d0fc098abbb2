package main

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/smapi"
)

// An export by dom0 of a disk of 20 GiB with 64 MiB of data, in pieces of 1 MiB: all of it by the device, and what SEEK_DATA finds by the file.
func BenchmarkSparseExport(b *testing.B) {
	const size, data, piece = 20 << 30, 64, 1 << 20
	p := newBench(b)
	for _, kind := range []string{"xfs", "btrfs"} {
		p.b = b
		s := p.sr(kind, nil)
		var v benchVolume
		s.call(smapi.VolumeCreate{SR: s.handle, Name: "disk", Size: size}, &v)
		var ways smapi.Backend
		s.call(smapi.DatapathAttach{URI: v.URI[0], Domain: "u0_export"}, &ways)
		s.call(smapi.DatapathActivate{URI: v.URI[0], Domain: "u0_export"}, nil)
		file := ways.Implementations[len(ways.Implementations)-1].File.Path
		f, err := os.OpenFile(ways.Path(), os.O_WRONLY, 0)
		if err != nil {
			b.Fatal(err)
		}
		for i := range int64(data) {
			one := make([]byte, piece)
			one[0] = byte(i + 1)
			if _, err := f.WriteAt(one, i*(size/data)); err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
		for name, path := range map[string]string{"device": ways.Path(), "file": file} {
			b.Run(kind+"-"+name, func(b *testing.B) {
				for b.Loop() {
					read, err := export(path, size)
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(read>>20), "MiB-read")
				}
			})
		}
		s.call(smapi.DatapathDeactivate{URI: v.URI[0], Domain: "u0_export"}, nil)
		s.call(smapi.DatapathDetach{URI: v.URI[0], Domain: "u0_export"}, nil)
	}
}

// export reads a disk as vhd-tool does: without holes, where its path tells of them.
func export(path string, size int64) (read int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	b := make([]byte, 2<<20)
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		to := size
		switch {
		case err == unix.ENXIO:
			return read, nil
		case err == nil:
			to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
		case err == unix.EINVAL: // a device
			from, err = 0, nil
		}
		if err != nil {
			return read, err
		}
		for at = from; at < to; {
			n, err := f.ReadAt(b[:min(int64(len(b)), to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return read, err
			}
			at, read = at+int64(n), read+int64(n)
		}
	}
	return read, nil
}
