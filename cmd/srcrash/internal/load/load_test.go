package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/tests"
)

func TestMain(m *testing.M) { os.Exit(rig.RunTests(m)) }

func needsRoot(t *testing.T) {
	t.Helper()
	tests.Root(t, "mounting filesystems and attaching loop devices")
}

// The command on both filesystems, as short as it can be and still have something to judge: with every load, or with
// some of each kind; in parts with a quarter of them, on one filesystem each.
func TestLoad(t *testing.T) {
	needsRoot(t)
	all := names((&run{}).loads())
	for turn, fs := range []string{"btrfs", "xfs"} {
		loads := tests.Due(tests.Turn(all, turn), 4)
		if !tests.All() {
			loads = [][]string{{"direct", "mixed", "lost", "buffered", "ext4"}, {"direct", "wal", "killed", "buffered", "ext4"}}[turn]
		}
		t.Run(fs, func(t *testing.T) { testLoad(t, fs, strings.Join(loads, ",")) })
	}
}

func testLoad(t *testing.T, fs, loads string) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	lines := filepath.Join(t.TempDir(), "lines")
	const snapshots = 3
	args := []string{"-fs", fs, "-load", loads, "-snapshots", fmt.Sprint(snapshots), "-writes", "1000", "-extents", "2000", "-json", lines, "-ext4", "2"}
	if err := needsExt4(); err != nil {
		t.Log(err)
		args[len(args)-1] = "0"
	}
	var out bytes.Buffer
	err := Run(args, &out)
	t.Logf("%s", out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dir)
	written, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]map[string]int{}
	for text := range bytes.Lines(written) {
		var one struct {
			Load, Way string
			Snapshot  int
		}
		if err := json.Unmarshal(text, &one); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if one.Snapshot > 0 {
			if ways[one.Load] == nil {
				ways[one.Load] = map[string]int{}
			}
			ways[one.Load][one.Way]++
		}
	}
	for load := range strings.SplitSeq(loads, ",") {
		want := []string{preCopy}
		switch load {
		case "direct":
			want = []string{atOnce} // the disk has few extents at first
		case "buffered", "ext4":
			want = nil
		case "lost":
			want = []string{gaveUp} // the next may, where the guest writes as much as it can
		case "killed":
			want = append(want, killed.name)
		}
		for _, way := range want {
			if ways[load][way] < 2 { // in each of two settings
				t.Errorf("%s: %v, want two by %s", load, ways[load], way)
			}
		}
	}
}

// A load is wrong where something was found, and where nothing was tested.
func TestWrong(t *testing.T) {
	good := summary{Load: "mixed", setup: setup{"xfs", true}, Snapshots: 3, During: 5, MustPreCopy: true, Ways: map[string]int{preCopy: 1, gaveUp: 2}}
	never := good
	never.Ways = map[string]int{gaveUp: 2, atOnce: 1}
	idle := good
	idle.During = 0
	torn := good
	torn.Torn, torn.Why = 1, []string{"block 7 is torn"}
	for want, s := range map[string]summary{"": good, "no snapshot was taken by pre-copy": never, "nothing was tested": idle, "1 violations (seed 9):\n  block 7": torn} {
		err := (&run{seed: 9}).wrong([]summary{s})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("left mounted below %s: %v\n%s", dir, err, mounts)
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range backing {
		if file, err := os.ReadFile(path); err == nil && strings.Contains(string(file), dir) {
			t.Errorf("left attached: %s", file)
		}
	}
}

// A run that is stopped cleans up, wherever it was.
func TestInterrupted(t *testing.T) {
	needsRoot(t)
	if err := rig.PrivateHost(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	p, err := rig.Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log, err := rig.PrivateLog()
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{snapshots: 1 << 20, writes: 1 << 30, seed: 1, out: io.Discard, log: log}
	done := make(chan error)
	go func() {
		_, err := r.all(ctx, []setup{{"xfs", false}}, p)
		done <- err
	}()
	// It is under way when the disk has a device.
	for attached := false; !attached; {
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
		backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, path := range backing {
			file, _ := os.ReadFile(path)
			attached = attached || strings.Contains(string(file), dir+"/srcrash-load-") && !strings.Contains(string(file), ".img")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || cleaning(err) != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, dir)
}

// smallBlocks are those of a disk that is quickly read.
const smallBlocks = 4096

// threads write to it.
const threads = 4

// piece is the length in bytes of what is taken of it at a time where it is not taken at once.
const piece = smallBlocks * blockSize / 4

// What is not a snapshot is found not to be a moment of the disk: a copy, and one
// that shares blocks piece by piece.
func TestCheckerFinds(t *testing.T) {
	needsRoot(t)
	if err := rig.PrivateHost(); err != nil {
		t.Fatal(err)
	}
	p, err := rig.Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []setup{{"btrfs", true}, {"btrfs", false}, {"xfs", true}, {"xfs", false}} {
		t.Run(s.String(), func(t *testing.T) {
			b, err := makeBed(s, p, filesystemSize(0), t.TempDir())
			defer func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			}()
			if err != nil {
				t.Fatal(err)
			}
			d, err := b.create(smallBlocks * blockSize)
			if err != nil {
				t.Fatal(err)
			}
			plug, err := b.plugIn(d, "1", false)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			w := newWriters(threads)
			defer w.stop()
			defer cancel()
			var choices []choose
			for i := range threads {
				choices = append(choices, mixed(place{i, threads, smallBlocks / largest, 1}))
			}
			if err := w.start(ctx, plug.device, 1, 0, choices, func(err error) { t.Error(err); cancel() }); err != nil {
				t.Fatal(err)
			}
			for name, take := range map[string]func(to, from *os.File, at int64) error{"copied": copied, "in pieces": shared} {
				v := judgeTaken(t, b, w, d, func(to, from *os.File) error {
					for at := int64(0); at < smallBlocks*blockSize; at += piece {
						// However busy the host is, the disk is written between two pieces.
						if err := w.pace.wait(ctx, w.pace.made.Load()+200); err != nil {
							return err
						}
						if err := take(to, from, at); err != nil {
							return err
						}
					}
					return nil
				})
				if v.wrong() == 0 {
					t.Errorf("%s: that passed for a moment of the disk", name)
				}
				t.Logf("%s: %d torn, %d out of order, %d missing, %d future: %q", name, v.Torn, v.OutOfOrder, v.Missing, v.Future, v.Why)
			}
		})
	}
}

// judgeTaken judges what take makes of a disk's data.
func judgeTaken(t *testing.T, b *bed, w *writers, d disk, take func(to, from *os.File) error) verdict {
	t.Helper()
	// Past the page cache: where the device's writes bypass that, what a reader has in it makes
	// them fail to drop it, and the kernel then answers the disk's next flush with EIO.
	from, err := os.OpenFile(b.data(d), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(b.fs.Dir, "taken")
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	defer to.Close()
	if b.setup.FS == "btrfs" && b.setup.DirectIO {
		const noCOW = 0x00800000 // FS_NOCOW_FL: as the data is
		if err := unix.IoctlSetPointerInt(int(to.Fd()), unix.FS_IOC_SETFLAGS, noCOW); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := w.around(func() error { return take(to, from) })
	if err == nil {
		err = to.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := read(path, threads)
	if err != nil {
		t.Fatal(err)
	}
	return w.history().judge(c, blocks)
}

// copied copies a disk as a program would that knows no snapshots.
func copied(to, from *os.File, at int64) error {
	b := aligned(piece)
	for i := range b {
		b[i] = 1 // a direct read into memory that is not there yet may go through the page cache
	}
	if _, err := from.ReadAt(b, at); err != nil {
		return err
	}
	_, err := to.WriteAt(b, at)
	return err
}

// shared is a reflink, but not of the whole disk at once.
func shared(to, from *os.File, at int64) error {
	return unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
		Src_fd: int64(from.Fd()), Src_offset: uint64(at), Src_length: piece, Dest_offset: uint64(at)})
}
