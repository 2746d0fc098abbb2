package track

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) {
	if at := os.Getenv("TRACK_AND_WAIT"); at != "" {
		wait(at)
	}
	status, again := scratch.Isolate()
	if again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// wait traces a device until it is killed.
func wait(path string) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil {
		_, err = Open(st.Rdev)
	}
	fmt.Println(err)
	select {}
}

// device is a block device of 64 MiB over a file on the temporary directory's filesystem.
func device(t testing.TB) (path string, number uint64) {
	tests.Root(t, "a block device")
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	d, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "traced"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Release(); err != nil {
			t.Error(err)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(d.Path(), &st); err != nil {
		t.Fatal(err)
	}
	return d.Path(), st.Rdev
}

func traced(t testing.TB, number uint64) *Trace {
	trace, err := Open(number)
	if errors.Is(err, ErrUnsupported) {
		tests.Skip(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func aligned(size int) []byte {
	b := make([]byte, size+4096)
	return b[4096-int(uintptr(unsafe.Pointer(&b[0]))%4096):][:size]
}

func direct(t testing.TB, path string) *os.File {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func drain(t testing.TB, trace *Trace) (all []Event) {
	t.Helper()
	if err := trace.Drain(func(e Event) { all = append(all, e) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// What is written, discarded or zeroed is told, and what is read is not, nor what another device does.
func TestEverythingButReads(t *testing.T) {
	path, number := device(t)
	other, _ := device(t)
	trace := traced(t, number)
	defer func() {
		if err := trace.Close(); err != nil {
			t.Error(err)
		}
	}()
	f, of := direct(t, path), direct(t, other)
	span := func(first, end int64) (seen [2]int) {
		t.Helper()
		if err := trace.Settle(); err != nil {
			t.Fatal(err)
		}
		for _, e := range drain(t, trace) {
			if e.Kind == Marked || e.First < first || e.End > end {
				t.Errorf("told of %+v, which was not done", e)
				continue
			}
			seen[e.Kind] += int(e.End - e.First)
		}
		return seen
	}
	b := aligned(64 << 10)
	if _, err := of.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if seen := span(0, 0); seen != [2]int{} {
		t.Errorf("of nothing: %v", seen)
	}
	const blkdiscard, blkzeroout = 0x1277, 0x127f
	for what, do := range map[string]func(at, n int64) error{
		"write": func(at, n int64) error { _, err := f.WriteAt(b[:n], at); return err },
		"discard": func(at, n int64) error {
			r := [2]uint64{uint64(at), uint64(n)}
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkdiscard, uintptr(unsafe.Pointer(&r)))
			return errnoError(errno)
		},
		"zeros": func(at, n int64) error {
			r := [2]uint64{uint64(at), uint64(n)}
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkzeroout, uintptr(unsafe.Pointer(&r)))
			return errnoError(errno)
		},
	} {
		for _, at := range []int64{0, 4096, 1 << 20} {
			if err := do(at, 64<<10); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if seen := span(at/512, at/512+128); seen != [2]int{128, 128} {
				t.Errorf("%s at %d: told of %v sectors issued and done, want 128 of each", what, at, seen)
			}
		}
	}
	if _, err := f.WriteAt(b[:512], 512*3); err != nil {
		t.Fatal(err)
	}
	if seen := span(3, 4); seen != [2]int{1, 1} {
		t.Errorf("one sector: %v", seen)
	}
	if err := trace.Lost(); err != nil {
		t.Error(err)
	}
}

func errnoError(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// A mark lies between what was done before it and what is done after it, on whatever processors.
func TestMarkIsInOrder(t *testing.T) {
	path, number := device(t)
	trace := traced(t, number)
	defer trace.Close()
	f := direct(t, path)
	b := aligned(4096)
	for i := range int64(300) {
		if _, err := f.WriteAt(b, 2*i*4096); err != nil {
			t.Fatal(err)
		}
		if err := trace.Mark(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(b, (2*i+1)*4096); err != nil {
			t.Fatal(err)
		}
		if err := trace.Settle(); err != nil {
			t.Fatal(err)
		}
		var mark uint64
		events := drain(t, trace)
		for _, e := range events {
			if e.Kind == Marked {
				mark = e.Time
			}
		}
		if mark == 0 || len(events) != 5 {
			t.Fatalf("told of %+v", events)
		}
		for _, e := range events {
			if e.Kind != Marked && (e.Time <= mark) != (e.First == 2*i*8) {
				t.Errorf("write %d: %+v, the mark at %d", i, e, mark)
			}
		}
	}
}

// What does not fit is told as lost, at once or by Lost.
func TestLoss(t *testing.T) {
	path, number := device(t)
	trace := traced(t, number)
	defer trace.Close()
	if err := writeAt(trace.dir, "buffer_size_kb", "8"); err != nil {
		t.Fatal(err)
	}
	f := direct(t, path)
	b := aligned(4096)
	trace.lock.Lock() // nobody reads
	for i := range int64(2000) {
		if _, err := f.WriteAt(b, i*4096); err != nil {
			t.Fatal(err)
		}
	}
	trace.lock.Unlock()
	err := trace.Drain(func(Event) {})
	if lost := trace.Lost(); !errors.Is(lost, ErrLost) || err != nil && !errors.Is(err, ErrLost) {
		t.Errorf("%v; %v", err, lost)
	}
}

// A trace whose events somebody has switched off is not believed.
func TestSwitchedOff(t *testing.T) {
	_, number := device(t)
	for setting, value := range map[string]string{"events/enable": "0", "tracing_on": "0", "trace_clock": "local", "events/block/block_rq_issue/filter": "0", "events/block/block_rq_complete/enable": "0"} {
		trace := traced(t, number)
		if err := trace.Lost(); err != nil {
			t.Error(err)
		}
		if err := writeAt(trace.dir, setting, value); err != nil {
			t.Fatal(err)
		}
		if err := trace.Lost(); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", setting, err)
		}
		trace.Close()
	}
}

// A killed process leaves an instance, and the next trace removes it; one that is in use stays.
func TestSweep(t *testing.T) {
	path, number := device(t)
	trace := traced(t, number)
	defer trace.Close()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "TRACK_AND_WAIT="+path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "<nil>\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	there := func() (n int) {
		all, err := names(trace.root, instances)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			if strings.HasPrefix(name, fmt.Sprintf("%s%d-", prefix, c.Process.Pid)) || name == trace.name {
				n++
			}
		}
		return n
	}
	Sweep()
	if n := there(); n != 2 {
		t.Errorf("%d instances after a sweep while both are in use", n)
	}
	c.Process.Kill()
	c.Wait()
	Sweep()
	if n := there(); n != 1 {
		t.Errorf("%d instances after a sweep, want that of this process", n)
	}
}

// Before Linux 5.2 tracefs is had from a mount that nobody sees.
func TestMountApart(t *testing.T) {
	tests.Root(t, "mounting")
	fd, err := mountApart()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if text, err := readAt(fd, "events/header_page"); err != nil || !strings.Contains(text, "commit") {
		t.Errorf("%q, %v", text, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), "tracefs /sys tracefs") {
		t.Errorf("it is to be seen: %v", err)
	}
}
