package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"reflinksr/internal/fault"
)

func FuzzQcow2(f *testing.F) {
	f.Add(tinyQcow2(f)[:200])
	qemuSeeds(f, "qcow2", "-o cluster_size=512", "-c -o cluster_size=512", "-c -o cluster_size=1k,compression_type=zstd", "-o compat=0.10,cluster_size=512", "-c -o compat=0.10,cluster_size=4k", "-o extended_l2=on,cluster_size=16k")
	fuzz(f, "qcow2", nil)
}

func FuzzVHD(f *testing.F) {
	fill := bytes.Repeat([]byte{9}, 4096)
	f.Add(tinyVHD(64<<10, map[int][]byte{3: fill}, 1, "", 0))
	f.Add(tinyVHD(64<<10, map[int][]byte{4: fill[:600]}, 2, "base.vhd", 1, "W2ru", "MacX", "name"))
	qemuSeeds(f, "vpc", "-o subformat=fixed,force_size=on")
	fuzz(f, "vhd", map[string][]byte{"base.vhd": tinyVHD(64<<10, map[int][]byte{3: fill}, 1, "", 0)})
}

// A file of a tree tells what it has itself, and that is what a reader finds in it where it says that there are data; or it is refused in
// one line.
func FuzzVHDTree(f *testing.F) {
	fill := bytes.Repeat([]byte{9}, 4096)
	f.Add(tinyVHD(64<<10, map[int][]byte{3: fill, 5: fill[:1000]}, 1, "", 0))
	f.Add(tinyVHD(64<<10, map[int][]byte{4: fill[:600]}, 2, "base.vhd", 1, "W2ru", "MacX", "name"))
	in, err := os.Create(filepath.Join(f.TempDir(), "image"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { in.Close() })
	f.Fuzz(func(t *testing.T, all []byte) {
		if err := errors.Join(in.Truncate(0), in.Truncate(int64(len(all)))); err != nil {
			t.Fatal(err)
		}
		if _, err := in.WriteAt(summedUp(bytes.Clone(all)), 0); err != nil {
			t.Fatal(err)
		}
		d, err := OpenVHD(in, "image")
		if err != nil {
			told(t, err)
			return
		}
		ctx := context.Background()
		if err := d.Check(ctx); err != nil {
			told(t, err)
			return
		}
		end, own := int64(0), int64(0)
		if err := d.Own(ctx, func(at, length int64) error {
			if at < end || length <= 0 || length > d.Size-at {
				t.Fatalf("%d bytes at %d, after %d of %d", length, at, end, d.Size)
			}
			end, own = at+length, own+length
			return nil
		}); err != nil {
			told(t, err)
			return
		}
		if own > 1<<20 {
			return // that takes long
		}
		copied := int64(0)
		if err := d.CopyOwn(ctx, nowhere{t, end}, func(n int64) { copied += n }); err != nil || copied != own {
			t.Fatalf("%d bytes are copied of %d: %v", copied, own, err)
		}
	})
}

// nowhere takes changes of a disk that end there.
type nowhere struct {
	t   *testing.T
	end int64
}

func (n nowhere) WriteAt(p []byte, at int64) (int, error) { return len(p), n.ZeroAt(at, int64(len(p))) }

func (n nowhere) ZeroAt(at, length int64) error {
	if at < 0 || length <= 0 || at+length > n.end {
		n.t.Fatalf("%d bytes at %d, of %d", length, at, n.end)
	}
	return nil
}

func FuzzVMDK(f *testing.F) {
	f.Add(tinyVMDK())
	f.Add([]byte("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentSparse\"\nRW 128 SPARSE \"base\"\nRW 8 FLAT \"base\" 1\nRW 100 ZERO\n"))
	qemuSeeds(f, "vmdk", "-o subformat=streamOptimized")
	fuzz(f, "vmdk", map[string][]byte{"base": tinyVMDK()})
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("a disk"))
	f.Add(tinyVMDK())
	fuzz(f, "", nil)
}

// qemuSeeds are small images that qemu-img makes, where there is one: it begins with what our own writers make where not.
func qemuSeeds(f *testing.F, format string, options ...string) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		return
	}
	dir := f.TempDir()
	raw := bytes.Repeat([]byte("some text "), 800)
	if err := os.WriteFile(filepath.Join(dir, "raw"), append(raw, make([]byte, 12<<10-len(raw)+512)...), 0o600); err != nil {
		f.Fatal(err)
	}
	for _, o := range options {
		shell(f, dir, "qemu-img convert -f raw -O "+format+" "+o+" raw image")
		if format == "qcow2" {
			shell(f, dir, "qemu-img snapshot -c one image")
		}
		all, err := os.ReadFile(filepath.Join(dir, "image"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(all)
	}
}

// fuzz reads whatever it is given: it is refused in one line, or read the same from wherever one begins.
func fuzz(f *testing.F, format string, others map[string][]byte) {
	f.Fuzz(func(t *testing.T, all []byte) {
		if format == "vhd" {
			all = summedUp(bytes.Clone(all))
		}
		snapshot := ""
		if format == "qcow2" && len(all)%2 == 1 {
			snapshot = "one"
		}
		m, err := inMemory(all, Options{Format: format, Snapshot: snapshot}, others)
		if err != nil {
			told(t, err)
			return
		}
		defer m.Close()
		budget := 4 << 20
		for at, steps := int64(0), 0; at < m.Size() && steps < 500 && budget > 0; steps++ {
			s, err := m.at(at, step)
			if err != nil {
				told(t, err)
				return
			}
			if s.length <= 0 || s.length > m.Size()-at {
				t.Fatalf("at %d of %d: %d bytes", at, m.Size(), s.length)
			}
			if s.kind == data {
				p := make([]byte, min(s.length, 128<<10))
				budget -= len(p)
				if n, err := m.ReadAt(p, at); err != nil {
					told(t, err)
					return
				} else if n != len(p) {
					t.Fatalf("%d of %d bytes", n, len(p))
				}
				half := make([]byte, len(p)-len(p)/2)
				if _, err := m.ReadAt(half, at+int64(len(p)/2)); err != nil || !bytes.Equal(half, p[len(p)/2:]) {
					t.Fatalf("from within it is something else: %v", err)
				}
			}
			at += s.length
		}
	})
}

// told says whether an error is one that can be told.
func told(t *testing.T, err error) {
	if !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, os.ErrNotExist) || bytes.ContainsAny([]byte(err.Error()), "\n\x00\x1b") || len(err.Error()) > 1000 {
		t.Fatalf("%q", err)
	}
}
