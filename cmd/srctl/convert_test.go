package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reflinksr/cmd/internal/vhdtree"
	"reflinksr/internal/image"
)

// Whatever happens to a file of the source, or to one below it, while it is read is noticed, and nothing is made of what was read.
func TestSourceChanges(t *testing.T) {
	for name, c := range map[string]struct {
		below  bool // of the file that is read, or itself
		change func(path string) error
		want   string
	}{
		"written to": {false, func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{1}, 4000)
				f.Close()
			}
			return err
		}, "it was written to at "},
		"written to below": {true, func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{1}, 4000)
				f.Close()
			}
			return err
		}, "it was written to at "},
		"replaced": {true, func(path string) error {
			all, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path+".new", all, 0o600)
			}
			if err == nil {
				err = os.Rename(path+".new", path)
			}
			return err
		}, "it is another file"},
		"longer": {false, func(path string) error {
			all, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, append(all, all[len(all)-512:]...), 0o600)
			}
			return err
		}, "bytes, and has "},
		"gone": {true, os.Remove, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := makeTree(dir, 2); err != nil {
				t.Fatal(err)
			}
			s, err := vhdtree.Open(context.Background(), filepath.Join(dir, "old"), anyFile)
			if err != nil || len(s.Refused) > 0 || len(s.Roots) != 3 {
				t.Fatal(s, err)
			}
			defer s.Close()
			root := s.Roots[0]
			child := root.Children[0]
			victim := child
			if c.below {
				victim = root
			}
			stamp := child.Stamp()
			if err := child.ReadWhole(func(m *image.Image) error {
				return m.Compare(context.Background(), wanted(t, dir, child.Key), child.Size, func(int64) {})
			}); err != nil {
				t.Fatal(err)
			}
			for _, read := range []func(do func() error) error{
				func(do func() error) error { return child.ReadWhole(func(*image.Image) error { return do() }) },
				func(do func() error) error { return child.Read(func(*image.VHD) error { return do() }) },
			} {
				before, err := os.ReadFile(victim.Path())
				if err != nil {
					t.Fatal(err)
				}
				err = read(func() error { return c.change(victim.Path()) })
				if err == nil || !strings.Contains(err.Error(), victim.Path()) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%v, want %q", err, c.want)
				}
				if err := os.WriteFile(victim.Path(), before, 0o600); err != nil {
					t.Fatal(err)
				}
				if s, err = vhdtree.Open(context.Background(), filepath.Join(dir, "old"), anyFile); err != nil {
					t.Fatal(err)
				}
				root = s.Roots[0]
				child = root.Children[0]
				if child.Stamp() == stamp {
					t.Error("what was changed has the stamp that it had")
				}
			}
		})
	}
}

// Of a comparison every byte counts, those behind the end as well, and where either of the two has nothing but a hole.
func TestCompareCountsEveryByte(t *testing.T) {
	dir := t.TempDir()
	if err := makeTree(dir, 3); err != nil {
		t.Fatal(err)
	}
	s, err := vhdtree.Open(context.Background(), filepath.Join(dir, "old"), anyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := s.Roots[2]
	want, err := os.ReadFile(filepath.Join(dir, "want", f.Key))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexFunc(want, func(r rune) bool { return r != 0 })
	size := int64(len(want)) + 4096
	for _, at := range []int64{-1, 0, int64(first), int64(first) - 1, int64(len(want)) / 2, int64(len(want)) - 1, int64(len(want)), size - 1} {
		got := append(bytes.Clone(want), make([]byte, 4096)...)
		if at >= 0 {
			got[at] ^= 1
		}
		err := f.ReadWhole(func(m *image.Image) error {
			return m.Compare(context.Background(), heldDisk{bytes.NewReader(got)}, size, func(int64) {})
		})
		if (err == nil) != (at < 0) {
			t.Errorf("another byte at %d: %v", at, err)
		}
	}
}

// heldDisk is a disk of which nobody knows where it has holes.
type heldDisk struct{ io.ReaderAt }

func (heldDisk) EachData(from, to int64, do func(from, to int64) error) error { return do(from, to) }

func wanted(t *testing.T, dir, key string) heldDisk {
	all, err := os.ReadFile(filepath.Join(dir, "want", key))
	if err != nil {
		t.Fatal(err)
	}
	return heldDisk{bytes.NewReader(all)}
}

// anyFile is for files of which it is known that nobody else has them.
func anyFile(*os.File) error { return nil }
