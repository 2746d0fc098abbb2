package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/scripts/tests"
)

// qemuImage is how qemu-img makes an image, and what it is then.
type qemuImage struct {
	name   string
	make   string // commands; $d is a raw disk
	format string // of image, as qemu calls it
	ours   string // as we call it; "" the same
	snap   string

	anywhere bool // it names a file by its whole path
}

func qemuImages() (all []qemuImage) {
	add := func(name, format, commands string) {
		all = append(all, qemuImage{name: name, make: commands, format: format})
	}
	convert := func(name, format, options string) {
		if options != "" && !strings.HasPrefix(options, "-") {
			options = "-o " + options
		}
		add(name, format, fmt.Sprintf("qemu-img convert -f raw -O %s %s $d image", format, options))
	}
	convert("raw", "raw", "")
	for _, cluster := range []string{"512", "1k", "4k", "64k", "256k", "2M"} {
		for _, version := range []string{"0.10", "1.1"} {
			convert("qcow2 of "+cluster+" version "+version, "qcow2", "cluster_size="+cluster+",compat="+version)
		}
		convert("deflated "+cluster, "qcow2", "-c -o cluster_size="+cluster)
		convert("zstd "+cluster, "qcow2", "-c -o compression_type=zstd,cluster_size="+cluster)
	}
	convert("deflated version 2", "qcow2", "-c -o compat=0.10")
	for _, cluster := range []string{"16k", "64k", "2M"} {
		convert("parts of "+cluster, "qcow2", "extended_l2=on,cluster_size="+cluster)
	}
	convert("parts compressed", "qcow2", "-c -o extended_l2=on")
	convert("preallocated metadata", "qcow2", "preallocation=metadata")
	convert("preallocated", "qcow2", "preallocation=falloc")
	convert("lazy", "qcow2", "lazy_refcounts=on")
	for _, cluster := range []string{"512", "16k", "64k", "2M"} {
		more := ""
		if cluster == "16k" {
			more = ",extended_l2=on"
		}
		add("zeros over data "+cluster, "qcow2", "qemu-img convert -f raw -O qcow2 -o cluster_size="+cluster+more+" $d image; qemu-io -f qcow2 -c 'write -z 1M 3M' -c 'write -P 7 5000k 9k' -c 'discard 12M 3M' image >/dev/null")
	}
	// Chains.
	overlay := "qemu-io -f qcow2 -c 'write -P 3 3M 70k' -c 'write -z 64k 2M' -c 'write -P 9 9999k 33k' image >/dev/null"
	for base, b := range map[string]string{"raw": "cp $d base", "qcow2": "qemu-img convert -f raw -O qcow2 -c $d base", "vpc": "qemu-img convert -f raw -O vpc -o force_size=on $d base", "vmdk": "qemu-img convert -f raw -O vmdk $d base"} {
		add("over "+base, "qcow2", b+"; qemu-img create -q -f qcow2 -b base -F "+base+" image; "+overlay)
	}
	add("over a smaller one", "qcow2", "cp $d base; qemu-img create -q -f qcow2 -b base -F raw image 30M; "+overlay)
	add("over a larger one", "qcow2", "cp $d base; qemu-img create -q -f qcow2 -b base -F raw image 11M; "+overlay)
	add("over one by its whole path", "qcow2", "cp $d base; qemu-img create -q -f qcow2 -b $PWD/base -F raw image; "+overlay)
	all[len(all)-1].anywhere = true
	add("parts over parts", "qcow2", "qemu-img convert -f raw -O qcow2 -o extended_l2=on $d base; qemu-img create -q -f qcow2 -o extended_l2=on -b base -F qcow2 image; "+overlay)
	add("over nine in another directory", "qcow2", `mkdir sub; cp $d sub/0; f=raw; for i in 1 2 3 4 5 6 7 8 9; do qemu-img create -q -f qcow2 -o cluster_size=$((512<<i)) -b $((i-1)) -F $f sub/$i; f=qcow2; qemu-io -f qcow2 -c "write -P $i ${i}M 1500k" -c "write -z $((i+9))M 100k" sub/$i >/dev/null; done; qemu-img create -q -f qcow2 -b sub/9 -F qcow2 image; `+overlay)
	// Snapshots.
	snap := "qemu-img convert -f raw -O qcow2 %s $d image; qemu-img snapshot -c one image; qemu-io -f qcow2 -c 'write -P 5 1M 9M' image >/dev/null; qemu-img snapshot -c two image; %s; qemu-io -f qcow2 -c 'write -z 4M 4M' image >/dev/null"
	for i, options := range []string{"", "-c -o compat=0.10,cluster_size=4k", "-o extended_l2=on"} {
		resize := "qemu-img resize -q image 40M"
		if i == 1 {
			resize = "true"
		}
		for _, s := range []string{"one", "two", ""} {
			all = append(all, qemuImage{name: fmt.Sprintf("snapshot %q %s", s, options), make: fmt.Sprintf(snap, options, resize), format: "qcow2", snap: s})
		}
	}
	convert("dynamic VHD", "vpc", "")
	convert("dynamic VHD of its size", "vpc", "force_size=on")
	convert("fixed VHD", "vpc", "subformat=fixed,force_size=on")
	convert("fixed VHD of a geometry", "vpc", "subformat=fixed")
	add("dynamic VHD written to", "vpc", "qemu-img create -q -f vpc image 100M; qemu-io -f vpc -c 'write -P 5 1M 9M' -c 'write -P 6 77777k 1k' image >/dev/null")
	for _, sub := range []string{"monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		convert("VMDK "+sub, "vmdk", "subformat="+sub)
	}
	convert("VMDK with grains of zeros", "vmdk", "zeroed_grain=on")
	add("VMDK written to", "vmdk", "qemu-img create -q -f vmdk -o zeroed_grain=on image 100M; qemu-io -f vmdk -c 'write -P 5 1M 9M' -c 'write -z 2M 3M' -c 'write -P 6 77777k 1k' image >/dev/null")
	add("VMDK in parts", "vmdk", "qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse image 2100M; qemu-io -f vmdk -c 'write -P 5 2045M 5M' -c 'write -P 6 2099M 1k' image >/dev/null")
	for i := range all {
		if all[i].ours = all[i].format; all[i].format == "vpc" {
			all[i].ours = "vhd"
		}
	}
	return all
}

// disk is a raw disk of all kinds of pieces.
func disk(t testing.TB, path string, size int64) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 3<<20)
	r.Read(noise)
	for _, piece := range []struct{ at, length int64 }{{0, 70000}, {1 << 20, 512}, {3<<20 - 300, 1 << 20}, {9 << 20, 4096}, {15<<20 + 65536, 65536}, {size - 1000, 1000}} {
		f.WriteAt(noise[:piece.length], piece.at)
	}
	f.WriteAt(bytes.Repeat([]byte("text that can be compressed\n"), 50000), 6<<20)
	f.WriteAt(make([]byte, 1<<20), 17<<20) // zeros that are data
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// shell runs commands in a directory.
func shell(t testing.TB, dir, commands string, env ...string) {
	t.Helper()
	c := exec.Command("sh", "-ec", commands)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands, err, out)
	}
}

func needQemu(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		tests.Skip(t, "there is no qemu-img (qemu-utils) to compare with")
	}
}

// Each image that qemu-img makes holds for us what it holds for qemu-img, byte by byte, read in order, in pieces, and in any order.
func TestAsQemu(t *testing.T) {
	needQemu(t)
	top := t.TempDir()
	disk(t, filepath.Join(top, "disk"), 24<<20+512)
	all := qemuImages()
	if len(all) < 60 {
		t.Fatalf("only %d images", len(all))
	}
	for i, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(top, fmt.Sprint(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			shell(t, dir, c.make, "d=../disk")
			snap := ""
			if c.snap != "" {
				snap = "-l snapshot.name=" + c.snap
			}
			shell(t, dir, fmt.Sprintf("qemu-img convert -f %s %s -O raw image want", c.format, snap))
			if c.snap != "" { // qemu-img gives a snapshot the size that the disk has now
				shell(t, dir, "truncate -s 25166336 want")
			}
			compare(t, dir, Options{Format: c.ours, Snapshot: c.snap, Anywhere: c.anywhere}, filepath.Join(dir, "want"))
			os.RemoveAll(dir)
		})
	}
}

// compare holds an image against the raw disk that it must be.
func compare(t *testing.T, dir string, o Options, want string) {
	t.Helper()
	m, err := Open(t.Context(), filepath.Join(dir, "image"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	raw, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	st, err := raw.Stat()
	if err != nil || m.Size() != st.Size() || m.Format() != o.Format {
		t.Fatalf("a %s disk of %d bytes, want %d of %s (%v)", m.Format(), m.Size(), st.Size(), o.Format, err)
	}
	to, err := os.Create(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	w, err := NewWriter(to, "raw", m.Size())
	if err != nil {
		t.Fatal(err)
	}
	last, total := int64(0), int64(0)
	if err := m.CopyTo(context.Background(), w, func(done, all int64) { last, total = done, all }); err != nil {
		t.Fatal(err)
	}
	if last != total || total > m.Size() {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	shell(t, dir, "qemu-img compare -q -f raw -F raw copy '"+want+"'")
	if c, err := to.Stat(); err != nil || allocated(c) > 14<<20 {
		t.Errorf("%d bytes are allocated: holes are not kept, %v", allocated(c), err)
	}
	// In any order, of any length.
	r := rand.New(rand.NewPCG(1, 2))
	for range tests.Share(60, 400) {
		at := r.Int64N(m.Size())
		length := min(1+r.Int64N(1<<r.IntN(20)), m.Size()-at)
		got, should := make([]byte, length), make([]byte, length)
		if _, err := m.ReadAt(got, at); err != nil {
			t.Fatal(err)
		}
		raw.ReadAt(should, at)
		if !bytes.Equal(got, should) {
			t.Fatalf("%d bytes at %d are others", length, at)
		}
		e, err := m.Extent(at)
		if err != nil || e.Length <= 0 || e.Length > m.Size()-at {
			t.Fatalf("at %d: %+v, %v", at, e, err)
		}
		if n := min(e.Length, length); !e.Data && !isZero(should[:n]) {
			t.Fatalf("at %d: %+v, and there are data", at, e)
		}
	}
	if _, err := m.ReadAt(make([]byte, 1), m.Size()); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
}

// What is written is what qemu-img reads, whole by its own check, and nothing is allocated for zeros.
func TestWritersAsQemu(t *testing.T) {
	needQemu(t)
	top := t.TempDir()
	for name, size := range map[string]int64{"small": 4096, "middling": 24<<20 + 4096, "large": 3<<40 + 4096, "largest VHD": vhdLargest} {
		path := filepath.Join(top, name)
		if size < 20<<20 {
			if err := os.WriteFile(path, bytes.Repeat([]byte{7}, int(size)), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			disk(t, path, size)
		}
		for format, theirs := range map[string]string{"raw": "raw", "qcow2": "qcow2", "vhd": "vpc"} {
			t.Run(name+" "+format, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				m, err := Open(t.Context(), path, Options{Format: "raw"})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				f, err := os.Create(filepath.Join(dir, "image"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				w, err := NewWriter(f, format, size)
				if format == "vhd" && size > vhdLargest {
					if err == nil {
						t.Error("a VHD of 3 TiB is begun")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if err := m.CopyTo(context.Background(), w, func(int64, int64) {}); err != nil {
					t.Fatal(err)
				}
				if st, err := f.Stat(); err != nil || allocated(st) > 16<<20 {
					t.Errorf("%d bytes are allocated, %v", allocated(st), err)
				}
				if format == "qcow2" {
					shell(t, dir, "qemu-img check -q -f qcow2 image")
				}
				shell(t, dir, fmt.Sprintf("qemu-img compare -q -f %s -F raw image '%s'", theirs, path))
				if size < 1<<30 {
					compare(t, dir, Options{Format: format}, path)
				}
			})
		}
	}
}
