package precopy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/internal/reflink"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	status, again := scratch.Isolate()
	if again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

const testBlocks = 4096

// inUse is a disk in many pieces, with a device, on a filesystem of a kind.
func inUse(t testing.TB, kind string) (d Disk, device *os.File) {
	return inUseOf(t, kind, setting{testBlocks / 2, kind == "btrfs", kind == "btrfs"})
}

// setting is how a disk is made: in how many pieces, on btrfs without checksums, and whether direct I/O is asked for.
type setting struct {
	pieces   int64
	noCOW    bool
	directIO bool
}

func inUseOf(t testing.TB, kind string, s setting) (d Disk, device *os.File) {
	tests.Root(t, "a block device")
	if err := scratch.Available(kind); err != nil {
		tests.Skip(t, err)
	}
	fs, err := scratch.Make(kind, 512<<20+s.pieces*40<<10, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.Remove(); err != nil {
			t.Error(err)
		}
	})
	f, err := os.OpenFile(filepath.Join(fs.Dir, "disk"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := (reflink.Attributes{NoCOW: s.noCOW}).Apply(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(s.pieces*2*4096 + 512); err != nil { // the last block is not a whole one
		t.Fatal(err)
	}
	l, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "precopy", DirectIO: s.directIO})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	number, err := l.BlockNumber()
	if err != nil {
		t.Fatal(err)
	}
	device, err = os.OpenFile(l.Path(), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	for i := int64(0); i < 2*s.pieces; i += 2 {
		write(t, device, i)
	}
	if err := device.Sync(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return Disk{File: file, Device: number, Buffered: !info.DirectIO, Progress: func(int) {}}, device
}

var writes byte

// write writes to a block what was written nowhere before.
func write(t testing.TB, device *os.File, block int64) {
	b := make([]byte, 2*4096)
	b = b[4096-int(uintptr(unsafe.Pointer(&b[0]))%4096):][:4096]
	writes++
	for i := range b {
		b[i] = writes
	}
	if _, err := device.WriteAt(b, block*4096); err != nil {
		t.Fatal(err)
	}
}

// target is an empty file beside the disk's.
func target(t testing.TB, d Disk) *os.File {
	f, err := os.CreateTemp(filepath.Dir(d.File.Name()), "clone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	attrs, err := reflink.AttributesOf(d.File)
	if err == nil {
		err = attrs.Apply(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// begun is target, with what an earlier clone has.
func begun(t testing.TB, d *Disk, earlier *os.File) *os.File {
	f := target(t, *d)
	if err := reflink.CloneFile(f, earlier); err != nil {
		t.Fatal(err)
	}
	d.Begun = true
	return f
}

func contents(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func taken(t testing.TB, f *os.File, d Disk) Result {
	t.Helper()
	r, err := Take(f, d)
	if IsNoMoment(err) && !errors.Is(err, ErrGaveUp) {
		tests.Skip(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A disk that is written to while it is cloned, also behind what has been cloned already, is cloned as it is in
// the end where nothing is written any more then; from nothing, and from an earlier clone.
func TestTake(t *testing.T) {
	for _, kind := range []string{"btrfs", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			d, device := inUse(t, kind)
			told := 0
			d.Progress = func(percent int) {
				told++
				for i := range int64(3) {
					write(t, device, (int64(percent)*37+i*1301)%testBlocks)
				}
			}
			whole := target(t, d)
			r := taken(t, whole, d)
			if !bytes.Equal(contents(t, whole), contents(t, d.File)) {
				t.Error("the clone is not the disk")
			}
			if r.Again == 0 || r.Pieces < 10 || told < 10 || r.Longest < r.P99 || r.Longest == 0 {
				t.Errorf("%+v, told %d times how far it was", r, told)
			}
			for i := range int64(50) {
				write(t, device, i*31%testBlocks)
			}
			before := contents(t, whole)
			again := begun(t, &d, whole)
			r = taken(t, again, d)
			if !bytes.Equal(contents(t, again), contents(t, d.File)) || !bytes.Equal(contents(t, whole), before) {
				t.Error("the second clone is not the disk, or the first is another now")
			}
			if r.Differ < 50 || r.Differ > 500 || r.Pieces > 0 {
				t.Errorf("from an earlier clone: %+v", r)
			}
			// An earlier clone that is longer, or has what is a hole in the disk by now, is no other.
			if err := whole.Truncate(testBlocks*4096 + 1<<20); err != nil {
				t.Fatal(err)
			}
			if err := unix.Fallocate(int(d.File.Fd()), 0, 0, 0); err == nil {
				t.Error("the disk's file is open for writing")
			}
			third := begun(t, &d, whole)
			taken(t, third, d)
			if !bytes.Equal(contents(t, third), contents(t, d.File)) {
				t.Error("the third clone is not the disk")
			}
		})
	}
}

// Whoever else has had the file open for writing may have written to it: the clone does not count.
func TestAnotherWriter(t *testing.T) {
	for what, come := range map[string]func(d Disk) error{
		"a program": func(d Disk) error {
			f, err := os.OpenFile(d.File.Name(), os.O_RDWR, 0)
			return errors.Join(err, f.Close())
		},
		"a second device": func(d Disk) error {
			f, err := os.OpenFile(d.File.Name(), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			l, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "second"})
			f.Close()
			if err != nil {
				return err
			}
			return l.Release()
		},
	} {
		t.Run(what, func(t *testing.T) {
			d, _ := inUse(t, "btrfs")
			f := target(t, d)
			came := false
			d.Progress = func(int) {
				if !came {
					came = true
					if err := come(d); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := Take(f, d); !came || !errors.Is(err, ErrGaveUp) || !IsNoMoment(err) {
				t.Errorf("came: %v; %v", came, err)
			}
		})
	}
}

// A device that is none, and a full filesystem, are told apart.
func TestTakeFails(t *testing.T) {
	d, _ := inUse(t, "btrfs")
	f := target(t, d)
	read, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := Take(read, d); err == nil || IsNoMoment(err) {
		t.Errorf("a clone that cannot be written: %v", err)
	}
	d.Progress = func(int) { f.Truncate(0); f.Close() }
	if _, err := Take(f, d); err == nil || IsNoMoment(err) {
		t.Errorf("a clone that goes: %v", err)
	}
	if IsNoMoment(unix.ENOSPC) || IsNoMoment(nil) || !IsNoMoment(fmt.Errorf("x: %w", errNoMark)) {
		t.Error("what is wrong with the filesystem is no lack of a moment")
	}
}
