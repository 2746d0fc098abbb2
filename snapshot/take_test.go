package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"reflinksr/datapath"
	"reflinksr/internal/dirfs"
	"reflinksr/internal/rundir"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/snapshot/precopy"
	"reflinksr/sr"
	"reflinksr/volume"
)

var hostRundir = rundir.Path

// TestMain runs the tests where nobody else sees what they mount, or what the host knows of their SRs.
func TestMain(m *testing.M) {
	status, again := scratch.Isolate()
	if again {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// attachedDisk makes an SR on btrfs with a disk that a domain has, and opens it.
func attachedDisk(t *testing.T) (s *sr.SR, v volume.Volume) {
	tests.Root(t, "an SR with a guest")
	was := rundir.Path
	rundir.Path = hostRundir // plainsr.Make has one for its own SRs
	t.Cleanup(func() { rundir.Path = was })
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
	conf, err := sr.Create(uuid.NewString(), map[string]string{"path": fs.Dir}, "n", "")
	if err != nil {
		t.Fatal(err)
	}
	handle, err := sr.Attach(conf)
	if err != nil {
		t.Fatal(err)
	}
	if v, err = volume.Create(handle, "n", "", 16<<20, false); err != nil {
		t.Fatal(err)
	}
	if _, err := datapath.Attach(v.URI[0], "1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := datapath.Detach(v.URI[0], "1"); err != nil {
			t.Error(err)
		}
	})
	if s, err = sr.Open(handle, dirfs.Shared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, v
}

// A clone that was made while a disk was in use counts if the disk has the device that was traced still: a
// disk that was detached and attached again may have another under that number.
func TestDiskThatIsAttachedAnew(t *testing.T) {
	s, v := attachedDisk(t)
	key := v.Key
	for _, what := range []string{"as it was", "its file was renamed", "attached anew"} {
		anew := what == "attached anew"
		d, err := source(s, key)
		if err != nil {
			t.Fatal(err)
		}
		defer d.data.Close()
		if len(d.devices) != 1 {
			t.Fatalf("it has the devices %v", d.devices)
		}
		switch what { // what the device was when the clone was begun
		case "attached anew":
			d.devices[0].Sequence += 1000
			d.devices[0].Name = "another"
		case "its file was renamed":
			if d.devices[0].Sequence == 0 {
				continue // then its name is what tells it from others
			}
			d.devices[0].Name = string(key) + ".renewed"
		}
		f, err := s.Staging.Create("clone")
		if err != nil {
			t.Fatal(err)
		}
		if err := d.attrs.Apply(f); err != nil {
			t.Fatal(err)
		}
		err = d.takeInUse(f, 0)
		f.Close()
		s.Staging.Remove("clone")
		if precopy.IsNoMoment(err) && !errors.Is(err, precopy.ErrGaveUp) {
			tests.Skip(t, err)
		}
		if anew != errors.Is(err, precopy.ErrGaveUp) || !anew && err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The newest snapshot is found among all that the SR has: one that has its data, of that disk.
func TestNewestSnapshot(t *testing.T) {
	s, v := attachedDisk(t)
	key := v.Key
	if _, err := newestOf(s, key); !errors.Is(err, errNoSnapshot) {
		t.Errorf("without any: %v", err)
	}
	var made []volume.Volume
	for range 3 {
		one, err := derive(s, key, s, volume.Snapshot, nil)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, one)
	}
	if _, err := derive(s, key, s, volume.Clone, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := derive(s, made[0].Key, s, volume.Snapshot, nil); err != nil {
		t.Fatal(err)
	}
	if newest, err := newestOf(s, key); err != nil || newest != made[2].Key {
		t.Errorf("%v, %v, want %v", newest, err, made[2].Key)
	}
	r, err := volume.Load(s, made[2].Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DestroyData(s, made[2].Key); err != nil {
		t.Fatal(err)
	}
	if newest, err := newestOf(s, key); err != nil || newest != made[1].Key {
		t.Errorf("with the newest one's data destroyed: %v, %v, want %v", newest, err, made[1].Key)
	}
}
