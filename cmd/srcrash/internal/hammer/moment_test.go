package hammer

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"reflinksr/cmd/srcrash/internal/rig"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
	"reflinksr/sr"
	"reflinksr/volume"
)

// What is told of a volume is of one moment: its name is set before its size, so
// that nobody ever sees the new size with the old name.
func TestStatIsOfOneMoment(t *testing.T) {
	tests.Root(t, "mounting filesystems")
	if err := scratch.Available("xfs"); err != nil {
		tests.Skip(t, err)
	}
	if err := rig.PrivateHost(); err != nil {
		t.Fatal(err)
	}
	fs, err := scratch.Make("xfs", 1<<30, filepath.Join(t.TempDir(), "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Remove()
	configuration, err := sr.Create(uuid.NewString(), map[string]string{"path": fs.Dir}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	handle, err := sr.Attach(configuration)
	if err != nil {
		t.Fatal(err)
	}
	v, err := volume.Create(handle, "0", "", volume.NewSizeUnit, false)
	if err != nil {
		t.Fatal(err)
	}
	key := v.Key
	var over atomic.Bool
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			for !over.Load() {
				v, err := volume.Stat(handle, key)
				if err != nil {
					t.Error(err)
					return
				}
				name, err := strconv.ParseInt(v.Name, 10, 64)
				if units := v.VirtualSize/volume.NewSizeUnit - 1; err != nil || units > name {
					t.Errorf("the volume has the name %q and the size of %d", v.Name, units)
					return
				}
			}
		})
	}
	for i, end := int64(1), time.Now().Add(5*time.Second); i <= 200 && time.Now().Before(end); i++ {
		if err := volume.SetName(handle, key, fmt.Sprint(i)); err != nil {
			t.Error(err)
		}
		if err := volume.Resize(handle, key, volume.NewSizeUnit*(i+1)); err != nil {
			t.Error(err)
		}
	}
	over.Store(true)
	readers.Wait()
}
