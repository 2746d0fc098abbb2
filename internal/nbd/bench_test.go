package nbd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestMain is a server of a file when a benchmark starts it so: those of others are processes of their own as well.
func TestMain(m *testing.M) {
	if path := os.Getenv("REFLINKSR_NBD_SERVES"); path != "" {
		fmt.Fprintln(os.Stderr, serveAlone(path, os.Getenv("REFLINKSR_NBD_SOCKET")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func serveAlone(path, socket string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	d, err := NewFile(f, false)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return (&Server{Backend: d}).Serve(context.Background(), l)
}

// This server, nbdkit's file plugin and qemu-nbd serve the same file, in the page cache, to this client.
func BenchmarkServers(b *testing.B) {
	const size = 128 << 20
	dir, err := os.MkdirTemp("/dev/shm", "nbd")
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, random(size, 1), 0o600); err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	servers := map[string][]string{
		"ours":     {"env", "REFLINKSR_NBD_SERVES=" + path, "REFLINKSR_NBD_SOCKET=" + socket + "ours", self},
		"nbdkit":   {"nbdkit", "-f", "-U", socket + "nbdkit", "file", path},
		"qemu-nbd": {"qemu-nbd", "-t", "-e", "8", "-f", "raw", "-x", "x", "--cache=writeback", "-k", socket + "qemu-nbd", path},
	}
	clients := map[string]*Client{}
	for name, args := range servers {
		other(b, socket+name, args[0], args[1:]...)
		clients[name] = dial(b, socket+name, Options{})
	}
	for _, work := range []struct {
		name          string
		length, depth int
		write         bool
	}{{"read1MiB", 1 << 20, 4, false}, {"write1MiB", 1 << 20, 4, true}, {"read4KiB", 4096, 16, false}, {"write4KiB", 4096, 16, true}} {
		for _, name := range strings.Fields("ours nbdkit qemu-nbd") {
			c := clients[name]
			b.Run(work.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(work.length))
				b.SetParallelism(max(1, work.depth/2))
				var seeds atomic.Uint64
				b.RunParallel(func(pb *testing.PB) {
					r, p := rand.New(rand.NewPCG(seeds.Add(1), 1)), random(work.length, 2)
					for pb.Next() {
						at := int64(r.IntN(size/work.length)) * int64(work.length)
						var err error
						if work.write {
							_, err = c.WriteAt(p, at)
						} else {
							_, err = c.ReadAt(p, at)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
