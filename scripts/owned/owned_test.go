package owned

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
	"reflinksr/scripts/tests"
)

func needsRoot(t *testing.T) {
	tests.Root(t, "attaching loop devices")
}

func file(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Truncate(1 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func attach(t testing.TB, f *os.File) loop.Device {
	t.Helper()
	d, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "owned-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Detach() })
	return d
}

// bind takes the device with this very number; somebody else may have been faster.
func bind(number int, f *os.File) bool {
	d, err := os.OpenFile(loop.Device{Number: number}.Path(), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer d.Close()
	return unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_FD, int(f.Fd())) == nil
}

func bound(t testing.TB, d loop.Device) bool {
	_, err := d.Binding()
	if err != nil && !errors.Is(err, loop.ErrGone) {
		t.Error(err)
	}
	return err == nil
}

// Between a look at the devices and what follows from it, a number becomes somebody else's.
func TestDetachSparesWhoHasTheNumberNow(t *testing.T) {
	needsRoot(t)
	ours, theirs := t.TempDir(), t.TempDir()
	other := file(t, filepath.Join(theirs, "disk"))
	var st unix.Stat_t
	if err := unix.Fstat(int(other.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for try := 0; ; try++ {
		d := attach(t, file(t, filepath.Join(ours, "disk")))
		listed, err := Loops(Below(ours))
		if err != nil || len(listed) != 1 || !listed[0].Same(d) || listed[0].File != filepath.Join(ours, "disk") {
			t.Fatalf("%+v, %v, want %+v", listed, err, d)
		}
		if gone, err := d.Detach(); !gone || err != nil {
			t.Fatal(gone, err)
		}
		if !bind(d.Number, other) {
			if try > 100 {
				t.Fatal("somebody always takes the number")
			}
			continue
		}
		their := loop.Device{Number: d.Number, Dev: st.Dev, Ino: st.Ino}
		t.Cleanup(func() { their.Detach() })
		if err := Detach(listed); err != nil {
			t.Error(err)
		}
		if !bound(t, their) {
			t.Error("somebody else's device was detached")
		}
		if listed, err := Loops(Below(ours)); err != nil || len(listed) > 0 {
			t.Errorf("%+v, %v", listed, err)
		}
		return
	}
}

// Beside programs that attach and detach devices all the time ours are found and detached,
// all of them, and none of theirs.
func TestDetachBesideAChurn(t *testing.T) {
	needsRoot(t)
	ours, theirs := t.TempDir(), t.TempDir()
	var over atomic.Bool
	var turns atomic.Int64
	var churn sync.WaitGroup
	for i := range 4 {
		f := file(t, filepath.Join(theirs, "disk"+string(rune('0'+i))))
		churn.Go(func() {
			for !over.Load() {
				d, err := loop.Attach(loop.Config{File: f, SectorSize: 512, Name: "churn"})
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					time.Sleep(200 * time.Microsecond)
					if !bound(t, d) {
						t.Errorf("%s was taken from its file", d.Path())
						return
					}
				}
				if _, err := d.Detach(); err != nil {
					t.Error(err)
					return
				}
				turns.Add(1)
			}
		})
	}
	mine := []*os.File{file(t, filepath.Join(ours, "a")), file(t, filepath.Join(ours, "b"))}
	rounds := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); rounds++ {
		for _, f := range mine {
			attach(t, f)
		}
		listed, err := Loops(Below(ours))
		if err != nil || len(listed) != len(mine) {
			t.Fatalf("%+v, %v", listed, err)
		}
		// Twice: what the first has freed is somebody else's at once.
		if err := errors.Join(Detach(listed), Detach(listed)); err != nil {
			t.Fatal(err)
		}
	}
	over.Store(true)
	churn.Wait()
	if left, err := Loops(Below(ours)); err != nil || len(left) > 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
	if rounds < 5 || turns.Load() < 50 {
		t.Errorf("%d rounds beside %d of others", rounds, turns.Load())
	}
}

// A deleted file's device is found, by what sysfs calls it.
func TestDeviceOfADeletedFile(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	f := file(t, filepath.Join(dir, "disk"))
	d := attach(t, f)
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	listed, err := Loops(Below(dir))
	if err != nil || len(listed) != 1 || !listed[0].Same(d) {
		t.Fatalf("%+v, %v", listed, err)
	}
	if err := Detach(listed); err != nil || bound(t, d) {
		t.Error(err)
	}
}

func sleeper(t *testing.T, group bool) *exec.Cmd {
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: group, Pdeathsig: unix.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

// Processes are ended by what they are, and a number alone is none.
func TestSignal(t *testing.T) {
	ours, other := sleeper(t, true), sleeper(t, true)
	group := InGroup(ours.Process.Pid)
	found := Processes(group)
	if len(found) != 1 || found[0] != ours.Process.Pid {
		t.Fatalf("%v, want %d", found, ours.Process.Pid)
	}
	// As if the number had become the other's.
	Signal(other.Process.Pid, unix.SIGKILL, group)
	Signal(ours.Process.Pid, unix.SIGKILL, group)
	ours.Wait()
	if err := other.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the other one ended as well: %v", err)
	}
	if found := Processes(group); len(found) > 0 {
		t.Errorf("%v are left", found)
	}
	if children := Processes(ChildOf(os.Getpid())); len(children) != 1 || children[0] != other.Process.Pid {
		t.Errorf("children: %v, want %d", children, other.Process.Pid)
	}
}
