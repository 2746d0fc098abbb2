package nbd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// patchwork is a disk with data, holes and zeros, and its contents.
func patchwork(t *testing.T) (*os.File, []byte) {
	f := disk(t, 48<<20)
	for i, at := range []int64{0, 5 << 20, 17<<20 + 4096, 47 << 20} {
		if _, err := f.WriteAt(random(1<<20, uint64(i)), at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt(make([]byte, 1<<20), 30<<20); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return f, all
}

// What others' clients read of this server is the disk, and what they write to it becomes the disk.
func TestOthersClients(t *testing.T) {
	f, contents := patchwork(t)
	from := serve(t, &Server{Backend: file(t, f, false), Name: "disk"})
	uri := "nbd+unix:///x?socket="
	same := func(t *testing.T, path string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, contents) {
			t.Errorf("the copy differs (%v)", err)
		}
	}
	to := func(t *testing.T, kept bool) (socket, path string) {
		f := disk(t, int64(len(contents)))
		return serve(t, &Server{Backend: file(t, f, kept)}), f.Name()
	}
	t.Run("qemu-img", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "out")
		run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri+from, out)
		same(t, out)
		socket, path := to(t, false)
		run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", uri+from, uri+socket)
		same(t, path)
		if said := run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri+from, uri+socket); !strings.Contains(said, "identical") {
			t.Error(said)
		}
		said := run(t, "qemu-img", "map", "--output=json", "-f", "raw", uri+from)
		if n := strings.Count(said, `"data": false`); n < 3 {
			t.Errorf("it sees %d holes:\n%s", n, said)
		}
	})
	t.Run("nbdcopy", func(t *testing.T) {
		for _, kept := range []bool{false, true} {
			socket, path := to(t, kept)
			run(t, "nbdcopy", "--flush", uri+from, uri+socket)
			same(t, path)
		}
	})
	t.Run("nbdinfo", func(t *testing.T) {
		said := run(t, "nbdinfo", uri+from)
		for _, want := range []string{"newstyle-fixed without TLS, using structured packets", fmt.Sprintf("export-size: %d", len(contents)), "base:allocation", "can_multi_conn: true",
			"can_fua: true", "can_flush: true", "can_trim: true", "can_zero: true", "can_fast_zero: true", "can_df: true", "can_cache: false", "is_read_only: false", "block_size_maximum: 33554432"} {
			if !strings.Contains(said, want) {
				t.Errorf("%q is not in\n%s", want, said)
			}
		}
		if said := run(t, "nbdinfo", "--list", uri+from); !strings.Contains(said, `export="disk"`) {
			t.Error(said)
		}
		if said := run(t, "nbdinfo", "--map", uri+from); strings.Count(said, "hole,zero") < 3 {
			t.Error(said)
		}
		changed := serve(t, &Server{Backend: file(t, f, false), ReadOnly: true, Bitmap: &Bitmap{Name: "since", Extents: func(offset, length int64, _ int) ([]Changed, error) {
			for _, border := range []int64{1 << 20, 2 << 20} { // the second MiB has changed
				if offset < border {
					return []Changed{{min(length, border-offset), border == 2<<20}}, nil
				}
			}
			return []Changed{{length, false}}, nil
		}}})
		if said := run(t, "nbdinfo", "--map=qemu:dirty-bitmap:since", uri+changed); !strings.Contains(said, "1048576     1048576    1  dirty") {
			t.Error(said)
		}
		if said := run(t, "nbdinfo", "--map", uri+changed); strings.Count(said, "hole,zero") < 3 {
			t.Error(said)
		}
		if said := run(t, "nbdinfo", uri+changed); !strings.Contains(said, "qemu:dirty-bitmap:since") {
			t.Error(said)
		}
		reads := serve(t, &Server{Backend: file(t, f, false), ReadOnly: true})
		if said := run(t, "nbdinfo", uri+reads); !strings.Contains(said, "is_read_only: true") {
			t.Error(said)
		}
	})
	t.Run("qemu-io", func(t *testing.T) {
		socket, path := to(t, false)
		said := run(t, "qemu-io", "-f", "raw", uri+socket, "-c", "write -P 0xab 12345 70000", "-c", "write -f -P 0xcd 1M 4k", "-c", "write -z 40000 4096", "-c", "write -z -u 1M 512",
			"-c", "discard 2M 1M", "-c", "flush", "-c", "read -P 0xab 12345 27655", "-c", "read -P 0 40000 4096", "-c", "read -P 0xcd 1049088 3584", "-c", "read -P 0xab 44096 38249")
		if strings.Contains(said, "failed") || strings.Contains(said, "rror") {
			t.Error(said)
		}
		want := make([]byte, len(contents))
		copy(want[12345:], bytes.Repeat([]byte{0xab}, 70000))
		copy(want[1<<20:], bytes.Repeat([]byte{0xcd}, 4096))
		clear(want[40000:44096])
		clear(want[1<<20 : 1<<20+512])
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the disk is not what qemu-io wrote (%v)", err)
		}
	})
}

// This client reads and writes others' servers, whatever these can do.
func TestOthersServers(t *testing.T) {
	f, contents := patchwork(t)
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	size := fmt.Sprint(len(contents))
	for name, server := range map[string][]string{
		"nbdkit":                   {"nbdkit", "-f", "-U", "SOCKET", "memory", size},
		"nbdkit without structure": {"nbdkit", "-f", "--no-sr", "-U", "SOCKET", "memory", size},
		"nbdkit that can write":    {"nbdkit", "-f", "--no-sr", "--filter=nozero", "-U", "SOCKET", "eval", "get_size=echo " + size, "pread=dd if=" + dir + "/w skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none", "pwrite=dd of=" + dir + "/w seek=$4 conv=notrunc oflag=seek_bytes status=none", "can_write=exit 0", "can_flush=exit 3", "can_trim=exit 3", "can_zero=exit 3"},
		"nbdkit of blocks":         {"nbdkit", "-f", "--filter=blocksize-policy", "-U", "SOCKET", "memory", size, "blocksize-minimum=4096", "blocksize-maximum=65536", "blocksize-error-policy=error", "blocksize-preferred=4096"},
		"qemu-nbd":                 {"qemu-nbd", "-t", "-e", "8", "-f", "raw", "-x", "x", "-k", "SOCKET", dir + "/q"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, blank := range []string{"w", "q"} {
				os.Remove(filepath.Join(dir, blank))
				if err := os.WriteFile(filepath.Join(dir, blank), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(filepath.Join(dir, blank), int64(len(contents))); err != nil {
					t.Fatal(err)
				}
			}
			for _, plain := range []bool{false, true} {
				if plain && strings.Contains(name, "blocks") {
					continue // nobody has told
				}
				socket := filepath.Join(dir, strings.ReplaceAll(fmt.Sprint(name, plain), " ", ""))
				args := strings.Split(strings.ReplaceAll(strings.Join(server, "\n"), "SOCKET", socket), "\n")
				other(t, socket, args[0], args[1:]...)
				copyTo(t, file(t, f, false), contents, dial(t, socket, Options{Plain: plain}))
			}
		})
	}
}

// copyTo copies what is data and reads it back.
func copyTo(t *testing.T, from *File, contents []byte, c *Client) {
	t.Helper()
	if c.Size() != int64(len(contents)) {
		t.Fatalf("a disk of %d bytes", c.Size())
	}
	for at := int64(0); at < c.Size(); {
		extents, err := from.Extents(at, c.Size()-at, 1)
		if err != nil {
			t.Fatal(err)
		}
		if e := extents[0]; !e.Zero {
			if _, err := c.WriteAt(contents[at:at+e.Length], at); err != nil {
				t.Fatal(err)
			}
		}
		at += extents[0].Length
	}
	if err := c.Zero(2<<20, 1<<20, ZeroHow{}); err != nil {
		t.Error(err)
	}
	if c.Flags()&SendFlush != 0 {
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	}
	got := random(len(contents), 9)
	if n, err := c.ReadAt(got, 0); err != nil || n != len(got) || !bytes.Equal(got, contents) {
		t.Fatalf("%d bytes, %v: what was written does not come back", n, err)
	}
	for at := int64(0); at < c.Size(); {
		extents, err := c.Extents(at, c.Size()-at)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range extents {
			if e.Zero && len(bytes.TrimLeft(contents[at:at+e.Length], "\x00")) > 0 {
				t.Errorf("%d bytes at %d are told to be zeros", e.Length, at)
			}
			at += e.Length
		}
	}
}

// nbd-client lists the disk; the kernel attaches it, where it has devices for that.
func TestKernelsClient(t *testing.T) {
	f, contents := patchwork(t)
	socket := serve(t, &Server{Backend: file(t, f, false), ReadOnly: true, Name: "disk"})
	if said := run(t, "nbd-client", "-l", "-unix", socket); !strings.Contains(said, "disk") {
		t.Error(said)
	}
	if _, err := os.Stat("/dev/nbd0"); err != nil {
		t.Logf("not attached: the kernel has no nbd devices (modprobe nbd): %v", err)
		return
	}
	run(t, "nbd-client", "-unix", socket, "/dev/nbd0", "-N", "x", "-readonly")
	defer run(t, "nbd-client", "-d", "/dev/nbd0")
	if got, err := os.ReadFile("/dev/nbd0"); err != nil || !bytes.Equal(got, contents) {
		t.Errorf("the device differs (%v)", err)
	}
}
