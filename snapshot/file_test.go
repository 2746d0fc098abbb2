package snapshot

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/datapath"
	"reflinksr/scripts/owned"
	"reflinksr/scripts/tests"
	"reflinksr/snapshot/precopy"
)

// What dom0 writes to a disk's file is not told by the device: while dom0 has the disk, no clone counts that was made by that.
func TestDiskThatDom0Has(t *testing.T) {
	s, v := attachedDisk(t)
	d, err := source(s, v.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer d.data.Close()
	if err := d.onlyByDevice(); err != nil {
		t.Errorf("a guest has it: %v", err)
	}
	paths, err := datapath.Attach(v.URI[0], "u0_a")
	if err != nil || paths.File == "" {
		t.Fatalf("dom0 has %+v, %v", paths, err)
	}
	if err := d.onlyByDevice(); !errors.Is(err, precopy.ErrGaveUp) {
		t.Errorf("dom0 has it: %v", err)
	}
	// It came while the clone was made.
	f, err := s.Staging.Create("clone")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.attrs.Apply(f); err != nil {
		t.Fatal(err)
	}
	if err := d.takeInUse(f, 0); !errors.Is(err, precopy.ErrGaveUp) {
		if precopy.IsNoMoment(err) {
			tests.Skip(t, err)
		}
		t.Errorf("cloned while dom0 has it: %v", err)
	}
	f.Close()
	s.Staging.Remove("clone")
	if err := datapath.Detach(v.URI[0], "u0_a"); err != nil {
		t.Fatal(err)
	}
	if err := d.onlyByDevice(); err != nil {
		t.Errorf("dom0 had it: %v", err)
	}
}

// dirtyPages are those of a file that are not on the disk yet.
func dirtyPages(t *testing.T, path string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		if err == unix.ENOSYS {
			tests.Skip(t, err)
		}
		t.Fatal(err)
	}
	return stat.Dirty + stat.Writeback
}

// What dom0 wrote to a disk's file is durable when it gives the disk back, and so it is if the device is gone meanwhile.
func TestWhatDom0WroteLasts(t *testing.T) {
	_, v := attachedDisk(t)
	uri := v.URI[0]
	paths, err := datapath.Attach(uri, "0")
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []bool{false, true} {
		if err := datapath.Activate(uri, "0", false); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(paths.File, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte("data"), 1<<18), 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if n := dirtyPages(t, paths.File); n == 0 {
			t.Error("nothing is dirty: this test tells nothing")
		}
		if gone {
			loops, err := owned.Loops(func(file string) bool { return filepath.Base(file) == string(v.Key) })
			if err == nil {
				err = owned.Detach(loops)
			}
			if err != nil || len(loops) != 1 {
				t.Fatalf("its devices are %v, %v", loops, err)
			}
		}
		if err := datapath.Deactivate(uri, "0"); err != nil {
			t.Errorf("gone %v: %v", gone, err)
		}
		if n := dirtyPages(t, paths.File); n != 0 {
			t.Errorf("gone %v: %d pages are not on the disk", gone, n)
		}
	}
	if err := datapath.Detach(uri, "0"); err != nil {
		t.Error(err)
	}
}

// A guest that writes past the page cache after dom0 has read the file into it has no flush fail, and dom0 reads what it wrote.
func TestGuestAfterDom0(t *testing.T) {
	_, v := attachedDisk(t)
	uri := v.URI[0]
	paths, err := datapath.Attach(uri, "u0_a")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, v.VirtualSize)
	for round := range 6 {
		if err := datapath.Activate(uri, "1", false); err != nil {
			t.Fatal(err)
		}
		guest, err := os.OpenFile(paths.Device, os.O_WRONLY|unix.O_DIRECT, 0)
		if err != nil {
			t.Fatal(err)
		}
		for n := range int64(30) {
			at := (int64(round)*977 + n*3119) % (v.VirtualSize / 4096) * 4096
			b := aligned()
			rand.Read(b)
			copy(want[at:], b)
			if _, err := guest.WriteAt(b, at); err != nil {
				t.Fatal(err)
			}
			if err := guest.Sync(); err != nil {
				t.Fatalf("round %d: a flush failed: %v", round, err)
			}
		}
		guest.Close()
		if err := datapath.Deactivate(uri, "1"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := datapath.Activate(uri, "u0_a", true); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(paths.File); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: dom0 does not read what the guest wrote (%v)", round, err)
		}
		if err := datapath.Deactivate(uri, "u0_a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := datapath.Detach(uri, "u0_a"); err != nil {
		t.Error(err)
	}
}

// aligned is a buffer of 4096 bytes that direct I/O accepts.
func aligned() []byte {
	b := make([]byte, 8192)
	skip := 4096 - int(uintptr(unsafe.Pointer(&b[0]))%4096)
	return b[skip : skip+4096]
}

// A program that still has the file when dom0 gives the disk back is told of.
func TestProgramThatKeepsTheFile(t *testing.T) {
	_, v := attachedDisk(t)
	uri := v.URI[0]
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	for _, keeps := range []bool{false, true} {
		paths, err := datapath.Attach(uri, "0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(paths.File)
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("sleep", "100")
		if keeps {
			c.Stdin = f
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		log.Reset()
		err = datapath.Detach(uri, "0")
		told := strings.Contains(log.String(), fmt.Sprintf("process %d (sleep", c.Process.Pid))
		c.Process.Kill()
		c.Wait()
		if err != nil || told != keeps {
			t.Errorf("kept open: %v; told: %v, %v\n%s", keeps, told, err, &log)
		}
	}
}
