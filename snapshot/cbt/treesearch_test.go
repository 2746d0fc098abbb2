package cbt

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/reflink"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// Both ways to walk over a file on btrfs tell the same of it: what is the same block of
// another file, and what is a hole. Of compressed blocks only the tree can tell, and it
// must not be wrong.
func TestTreeAgreesWithFIEMAP(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	fs, err := scratch.Make("btrfs", 1<<30, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.Unmount(); err != nil {
			t.Error(err)
		}
	})
	for _, compressed := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "compressed"}[compressed]
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fs.Dir, name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if compressed {
				if err := unix.Setxattr(dir, "btrfs.compression", []byte("zstd"), 0); err != nil {
					t.Fatal(err)
				}
			}
			random := rand.New(rand.NewPCG(1, 2))
			told := 0
			for range 15 {
				told += agree(t, dir, random, compressed)
			}
			if told == 0 {
				t.Error("no two blocks were the same")
			}
		})
	}
}

// agree compares what both ways tell of a file and a clone of it, both of which have been
// written to. It returns how many pieces were the same.
func agree(t *testing.T, dir string, random *rand.Rand, compressed bool) (told int) {
	const size = 4 << 20
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(filepath.Join(dir, string(rune('a'+i))))
		if err == nil {
			err = f.Truncate(size)
		}
		if err == nil && i == 1 {
			scribble(t, files[0], random, size, 40, compressed)
			err = reflink.CloneFile(f, files[0])
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	for _, f := range files {
		scribble(t, f, random, size, 10, compressed)
	}
	var trees, maps [2]cursor
	var contents [2][]byte
	for i, f := range files {
		if !extent.InTree(f) {
			tests.Skip(t, "this kernel does not tell when it is in the tree")
		}
		var err error
		if trees[i], err = newTreeCursor(f, size); err != nil {
			t.Fatal(err)
		}
		maps[i] = newFileCursor(f, size, 0)
		if contents[i], err = os.ReadFile(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct{ same, empty bool }
	ask := func(c [2]cursor) []answer {
		answers := make([]answer, size/4096)
		err := together(c[0], c[1], 0, size, func(start, end int64, x, y segment) bool {
			for at := start; at < end; at += 4096 {
				answers[at/4096] = answer{same(x, y), x.what == hole}
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return answers
	}
	byTree, byMap := ask(trees), ask(maps)
	for i := range byTree {
		at := i * 4096
		equal := bytes.Equal(contents[0][at:at+4096], contents[1][at:at+4096])
		if byTree[i].same && !equal {
			t.Fatalf("block %d: the tree says that it is the same, and it is not", i)
		}
		if byTree[i] != byMap[i] && !compressed || byMap[i].same && !byTree[i].same || byTree[i].empty != byMap[i].empty {
			t.Fatalf("block %d: the tree tells %+v, FIEMAP %+v", i, byTree[i], byMap[i])
		}
		if byTree[i].same && !byTree[i].empty && byMap[i].same != compressed {
			told++
		}
	}
	return told
}

// scribble changes a file in all the ways that there are. A file into which something
// was allocated is not compressed any more.
func scribble(t *testing.T, f *os.File, random *rand.Rand, size int64, times int, compressed bool) {
	for range times {
		at := random.Int64N(size/4096) * 4096
		length := min(size-at, (1+random.Int64N(64))*4096)
		var err error
		what := random.IntN(5)
		if compressed {
			what = max(what, 2)
		}
		switch what {
		case 2:
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length)
		case 0:
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, length)
		case 1:
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, at, length)
		default:
			data := bytes.Repeat([]byte{byte(random.IntN(256)), byte(random.IntN(256)), 1}, int(length)/3+1)
			_, err = f.WriteAt(data[:length], at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What was acknowledged to a guest is in the tree when extent.InTree returns. When fsync returns
// it need not be: with both processors busy 4 of 400 changes went untold.
func TestTreeHasEveryWrite(t *testing.T) {
	tests.Root(t, "mounting a filesystem")
	if !extent.TreeTells() {
		tests.Skip(t, "this kernel does not tell when it is in the tree")
	}
	fs, err := scratch.Make("btrfs", 1<<30, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var busy sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		busy.Go(func() { keepBusy(t, filepath.Join(fs.Dir, "busy"+string(rune('0'+i))), stop) })
	}
	t.Cleanup(func() {
		close(stop)
		busy.Wait()
		if err := fs.Unmount(); err != nil {
			t.Error(err)
		}
	})
	const block, size = 64 << 10, 16 << 20
	path := filepath.Join(fs.Dir, "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	at := func(f *os.File, offset int64) segment {
		c, err := newTreeCursor(f, size)
		if err != nil {
			t.Fatal(err)
		}
		g, err := (&walker{cursor: c}).at(offset)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		before, err := os.Create(filepath.Join(fs.Dir, "snapshot"))
		if err == nil {
			err = reflink.CloneFile(before, f)
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			offset := random.Int64N(size/block) * block
			page[0] = byte(round)
			if _, err := f.WriteAt(page, offset); err != nil {
				t.Fatal(err)
			}
			if !extent.InTree(f) {
				t.Fatal("it did not get there")
			}
			if same(at(before, offset), at(f, offset)) {
				t.Errorf("the tree has not what was written to byte %d", offset)
			}
		}
		before.Close()
	}
}

// keepBusy gives btrfs items to insert until it is told to stop.
func keepBusy(t *testing.T, path string, stop chan struct{}) {
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	text := bytes.Repeat([]byte{2}, 4096)
	for n := int64(0); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		for i := range int64(64) {
			if _, err := f.WriteAt(text, (n*64+i)%4096*8192); err != nil {
				t.Error(err)
				return
			}
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
			return
		}
	}
}
