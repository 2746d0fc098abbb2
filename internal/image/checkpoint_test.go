package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// A checksum goes over zeros as if they were read.
func TestAfterZeros(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for _, n := range []int64{0, 1, 2, 7, 8, 512, 4095, 65536, 1 << 20} {
		begin := crc32.Checksum([]byte("begin"), castagnoli)
		if got, want := afterZeros(begin, n), crc32.Update(begin, castagnoli, zeros[:n]); got != want {
			t.Errorf("after %d zeros %08x, want %08x", n, got, want)
		}
	}
	long := crc32.Checksum([]byte{1}, castagnoli)
	for range 1 << 10 {
		long = crc32.Update(long, castagnoli, zeros)
	}
	if got := afterZeros(crc32.Checksum([]byte{1}, castagnoli), 1<<30); got != long {
		t.Errorf("after 1 GiB of zeros %08x, want %08x", got, long)
	}
}

// given is what a sink is given: bytes, or so many zeros.
type given struct {
	data  []byte
	zeros int64
}

// steps are a disk of holes, data, and zeros among data, in pieces of all lengths.
func steps(size int64) (all []given) {
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for at := int64(0); at < size; {
		n := min(size-at, (r.Int64N(600)+1)*4096)
		if r.IntN(3) == 0 {
			n = min(size-at, r.Int64N(5<<20)/512*512+512)
			all = append(all, given{zeros: n})
		} else {
			p := make([]byte, n)
			for from := 0; from < len(p); from += 4096 {
				if r.IntN(4) > 0 {
					for i := range p[from:min(from+4096, len(p))] {
						p[from+i] = byte(r.IntN(256))
					}
				}
			}
			all = append(all, given{data: p})
		}
		at += n
	}
	return all
}

func give(t *testing.T, w Writer, s given) {
	t.Helper()
	err := error(nil)
	if s.data != nil {
		_, err = w.Write(s.data)
	} else {
		err = w.Zeros(s.zeros)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whenever an image is interrupted, it goes on from its last checkpoint, whatever comes behind that, and in the end is the same as
// one that was not.
func TestContinue(t *testing.T) {
	for _, format := range Writable {
		for _, size := range []int64{40 << 20, 1100<<20 + 512} { // the second has several tables of a qcow2 image
			t.Run(format, func(t *testing.T) {
				dir := t.TempDir()
				disk := steps(min(size, 60<<20))
				if size > 60<<20 {
					disk = append(append([]given{{zeros: 500 << 20}}, disk...), given{zeros: size - 560<<20})
				}
				file := func(name string) *os.File {
					f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { f.Close() })
					return f
				}
				begin := func(f *os.File) Writer {
					w, err := NewWriter(f, format, size)
					if err != nil {
						t.Fatal(err)
					}
					return w
				}
				straight := file("straight")
				w := begin(straight)
				for _, s := range disk {
					give(t, w, s)
				}
				if err := w.End(); err != nil {
					t.Fatal(err)
				}
				f := file("interrupted")
				w = begin(f)
				for i := 0; i < len(disk); {
					n := rand.IntN(7)
					for ; n > 0 && i < len(disk); n, i = n-1, i+1 {
						give(t, w, disk[i])
					}
					note, err := json.Marshal(w.Checkpoint())
					if err != nil {
						t.Fatal(err)
					}
					for k := i; k < min(i+rand.IntN(3), len(disk)); k++ { // what comes after the checkpoint may be there or not
						give(t, w, disk[k])
					}
					var c Checkpoint
					if err := json.Unmarshal(note, &c); err != nil {
						t.Fatal(err)
					}
					if st, err := f.Stat(); err != nil || rand.IntN(2) == 0 && f.Truncate(max(c.End, st.Size()-5000)) != nil {
						t.Fatal(err)
					}
					if w, err = Continue(context.Background(), f, c, func(int64, int64) {}); err != nil {
						t.Fatalf("after %d of %d: %v", i, len(disk), err)
					}
				}
				if err := w.End(); err != nil {
					t.Fatal(err)
				}
				if a, b := contents(t, straight, format), contents(t, f, format); !bytes.Equal(a, b) {
					t.Errorf("what was interrupted is another image of %d bytes: it has %d", len(a), len(b))
				}
			})
		}
	}
}

// contents are a file's, without what a VHD has of its own each time: its UUID, and the checksum over that.
func contents(t *testing.T, f *os.File, format string) []byte {
	t.Helper()
	all, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	if format == "vhd" {
		clear(all[64:84])
		clear(all[len(all)-512+64:][:20])
	}
	return all
}

// What was changed, cut off or is another's is not gone on with, and stays as it is.
func TestContinueRefuses(t *testing.T) {
	const size = 24 << 20
	for _, format := range Writable {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w, err := NewWriter(f, format, size)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range steps(size / 2) {
			give(t, w, s)
		}
		c := w.Checkpoint()
		good, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for what, change := range map[string]func(p []byte, c *Checkpoint) []byte{
			"a bit":            func(p []byte, _ *Checkpoint) []byte { p[c.End-100] ^= 4; return p },
			"where a hole was": func(p []byte, _ *Checkpoint) []byte { p[bytes.Index(p, make([]byte, 4096))+9] = 1; return p },
			"cut off":          func(p []byte, _ *Checkpoint) []byte { return p[:c.End-1] },
			"empty":            func([]byte, *Checkpoint) []byte { return nil },
			"of another place": func(p []byte, c *Checkpoint) []byte { c.At = size + 1; return p },
			"of a negative":    func(p []byte, c *Checkpoint) []byte { c.At = -1; return p },
			"of another end":   func(p []byte, c *Checkpoint) []byte { c.End -= 512; return p },
			"with no table":    func(p []byte, c *Checkpoint) []byte { c.Layout.Table = append(c.Layout.Table, 0); return p },
		} {
			if format == "raw" && what == "with no table" {
				continue // it has none
			}
			c := c
			bad := change(bytes.Clone(good), &c)
			if err := os.WriteFile(f.Name(), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Continue(context.Background(), f, c, func(int64, int64) {}); !errors.Is(err, ErrOther) {
				t.Errorf("%s, %s: %v", format, what, err)
			}
			if is, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(is, bad) {
				t.Errorf("%s, %s: the file was changed, %v", format, what, err)
			}
		}
	}
}
