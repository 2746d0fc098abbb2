package sectors

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	status, again := scratch.Isolate()
	if !again {
		status = m.Run()
	}
	os.Exit(status)
}

// What a mirror wrote, laid over the disk that came meanwhile, is right to the sector: it has every sector that was
// written, and of the others the parent's. Block by block, as the file alone tells, the parent's sectors would be lost.
func TestRightToTheSector(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			fs, err := scratch.Make(kind, 512<<20, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { fs.Remove() })
			lost := 0
			for seed := range uint64(tests.Share(3, 20)) {
				lost += mirror(t, fs.Dir, seed)
			}
			if lost == 0 {
				t.Error("no sector would have been lost block by block: this test shows nothing")
			}
		})
	}
}

func mirror(t *testing.T, dir string, seed uint64) (lost int) {
	t.Helper()
	const size = 1 << 20
	file := func(name string, size int64) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		return f
	}
	whole, apart, composed := file("whole", size), file("apart", size*each), file("composed", size)
	defer whole.Close()
	defer apart.Close()
	defer composed.Close()
	r := rand.New(rand.NewPCG(seed, 1))
	parent := bytes.Repeat([]byte{'A'}, size)
	model, reads := bytes.Clone(parent), make([]byte, size)
	d := New(whole, apart)
	for i := range 200 {
		at := r.IntN(size/Sector) * Sector
		length := min(size-at, Sector*(1+r.IntN(8+r.IntN(64))))
		if r.IntN(3) == 0 {
			at, length = at&^(Block-1), Block
		}
		p := bytes.Repeat([]byte{byte(i)}, length) // also zeros
		if _, err := d.WriteAt(p, int64(at)); err != nil {
			t.Fatal(err)
		}
		copy(model[at:], p)
		copy(reads[at:], p)
		if i%20 == 0 {
			d = New(whole, apart) // it remembers nothing
		}
		got := make([]byte, size-at)
		if _, err := d.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, reads[at:]) {
			t.Fatalf("seed %d, write %d: what was written is not what is read (%v)", seed, i, err)
		}
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	// Compose: the parent's blocks, the child's where it has any, and then what is apart.
	if _, err := composed.WriteAt(parent, 0); err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < size; at += Block {
		there, err := has(whole, at, at+Block)
		if err != nil {
			t.Fatal(err)
		}
		if there {
			if _, err := unix.CopyFileRange(int(whole.Fd()), &[]int64{at}[0], int(composed.Fd()), &[]int64{at}[0], Block, 0); err != nil {
				t.Fatal(err)
			}
		}
		for s := at; s < at+Block; s += Sector {
			if reads[s] == 0 && model[s] == 'A' && !bytes.Equal(reads[at:at+Block], make([]byte, Block)) {
				lost++
			}
		}
	}
	if err := d.Lay(composed, size); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if _, err := composed.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	for s := 0; s < size; s += Sector {
		if !bytes.Equal(got[s:s+Sector], model[s:s+Sector]) {
			t.Fatalf("seed %d: sector %d is of %q, want %q", seed, s/Sector, got[s], model[s])
		}
	}
	return lost
}
