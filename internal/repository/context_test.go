package repository

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"reflinksr/internal/fault"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// TestMain runs the tests where nobody else sees what they mount, or what the host knows of their SRs.
func TestMain(m *testing.M) {
	status, again := scratch.Isolate()
	if again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// attachedSR makes an SR on btrfs, with a disk that has a MiB of data and a snapshot of it.
func attachedSR(t *testing.T) (path string, sr SR, disk, snapshot Volume) {
	tests.Root(t, "an SR")
	if err := scratch.Available("btrfs"); err != nil {
		tests.Skip(t, err)
	}
	fs, err := scratch.Make("btrfs", 1<<30, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fs.Remove(); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	configuration, err := Create(ctx, NewSR{UUID: uuid.NewString(), Configuration: map[string]string{"path": fs.Dir}})
	must(err)
	sr, err = Attach(ctx, configuration)
	must(err)
	t.Cleanup(func() {
		if err := sr.Detach(ctx); err != nil {
			t.Error(err)
		}
	})
	made, err := sr.Create(ctx, NewVolume{Name: "disk", Size: 4 << 20})
	must(err)
	f, err := os.OpenFile(filepath.Join(fs.Dir, string(made.Key)), os.O_WRONLY, 0)
	must(err)
	_, err = f.Write(make([]byte, 1<<20))
	must(errors.Join(err, f.Close()))
	disk = Volume{sr, made.Key}
	taken, err := disk.Snapshot(ctx)
	must(err)
	return fs.Dir, sr, disk, Volume{sr, taken.Key}
}

// What can take long ends when the context does, with its cause, and leaves nothing behind.
func TestEndOfContext(t *testing.T) {
	path, sr, disk, snapshot := attachedSR(t)
	over := errors.New("the caller has gone home")
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(over)
	for name, do := range map[string]func(context.Context) error{
		"comparing":              func(ctx context.Context) error { _, err := disk.Compare(ctx, snapshot.Key); return err },
		"comparing with nothing": func(ctx context.Context) error { _, err := disk.Compare(ctx, ""); return err },
		"telling changes":        func(ctx context.Context) error { _, err := snapshot.ChangesTo(ctx, disk.Key); return err },
		"measuring":              func(ctx context.Context) error { _, err := sr.Usage(ctx, ignore); return err },
		"listing origins":        func(ctx context.Context) error { _, err := sr.Family(ctx); return err },
		"listing leases":         func(ctx context.Context) error { _, err := sr.Leases(ctx); return err },
		"checking":               func(ctx context.Context) error { _, err := Check(ctx, path, ignore); return err },
		"importing": func(ctx context.Context) error {
			v, err := sr.Import(ctx, NewVolume{Size: 4096}, func(to Sink) error { return to.Zeros(4096) })
			if err == nil {
				err = (Volume{sr, v.Key}).Destroy(ctx)
			}
			return err
		},
		"exporting":                   func(ctx context.Context) error { _, err := disk.Export(ctx, &sink{}, ignore); return err },
		"telling a delta of the same": func(ctx context.Context) error { return delta(ctx, snapshot, snapshot.Key) },
		"telling a delta of nothing":  func(ctx context.Context) error { return delta(ctx, snapshot, "") },
	} {
		if err := do(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "telling a delta of the same" || name == "telling a delta of nothing" {
			continue // nothing is compared
		}
		if err := do(ended); !errors.Is(err, over) {
			t.Errorf("%s for somebody who has gone: %v", name, err)
		}
	}
	volumes(t, sr, 2)
}

func ignore(int64, int64) {}

func delta(ctx context.Context, v Volume, since Key) error {
	d, err := v.DeltaSince(ctx, since)
	if err == nil {
		d.Data.Close()
	}
	return err
}

func volumes(t *testing.T, sr SR, want int) {
	t.Helper()
	all, err := sr.List(context.Background())
	if err != nil || len(all) != want {
		t.Errorf("there are %d volumes (%v), %d were made", len(all), err, want)
	}
}

// sink takes a disk, or, with channels, tells that it was to be written to, and takes nothing
// until it is released.
type sink struct {
	data, zeros int64
	ended       bool
	asked, free chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	if s.asked != nil {
		s.asked <- struct{}{}
		<-s.free
	}
	s.data += int64(len(p))
	return len(p), nil
}

func (s *sink) Zeros(n int64) error { s.zeros += n; return nil }
func (s *sink) End() error          { s.ended = true; return nil }

// An export has all of the disk and reads no hole; one into a sink that takes nothing more ends
// with the context. Its snapshot is gone.
func TestExport(t *testing.T) {
	_, sr, disk, _ := attachedSR(t)
	var s sink
	var last [2]int64
	size, err := disk.Export(context.Background(), &s, func(done, total int64) { last = [2]int64{done, total} })
	if err != nil || size != 4<<20 || s.data != 1<<20 || s.zeros != 3<<20 || !s.ended || last != [2]int64{1 << 20, 1 << 20} {
		t.Errorf("%d bytes, of which %d were written and %d zero, to the end %v, progress %v: %v", size, s.data, s.zeros, s.ended, last, err)
	}
	volumes(t, sr, 2)

	stuck := sink{asked: make(chan struct{}), free: make(chan struct{})}
	defer close(stuck.free)
	over := errors.New("the caller has gone home")
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { <-stuck.asked; cancel(over) }()
	if _, err := disk.Export(ctx, &stuck, ignore); !errors.Is(err, over) {
		t.Error(err)
	}
	volumes(t, sr, 2)
}

// What is no key names no volume of an SR that is attached; of one that is not, no volume is known.
func TestParseVolumeOfAnSR(t *testing.T) {
	_, sr, _, _ := attachedSR(t)
	if _, err := ParseVolume(sr, "x"); !errors.Is(err, fault.ErrVolumeNotFound) {
		t.Error(err)
	}
	if _, err := ParseVolume("file:///nowhere?uuid="+SR(key), "x"); !errors.Is(err, fault.ErrNotAttached) {
		t.Error(err)
	}
}
