package repository

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/loop"
	"reflinksr/scripts/scratch"
	"reflinksr/scripts/tests"
)

// On a btrfs that is mounted from two devices at once, each overwriting what the other has
// written, no SR is made, attached or taken home.
func TestMountedFromTwoDevices(t *testing.T) {
	tests.Root(t, "mounting a filesystem twice")
	if err := scratch.Available("btrfs"); err != nil {
		tests.Skip(t, err)
	}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	fs, err := scratch.Make("btrfs", 512<<20, one)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := fs.Remove(); err != nil {
			t.Error(err)
		}
	}()
	ctx, path := context.Background(), filepath.Join(one, "sr")
	if err := errors.Join(os.Mkdir(path, 0o700), os.Mkdir(filepath.Join(one, "empty"), 0o700), os.Mkdir(two, 0o700)); err != nil {
		t.Fatal(err)
	}
	configuration, err := Create(ctx, NewSR{UUID: uuid.NewString(), Configuration: map[string]string{"path": path}})
	if err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	image, err := os.OpenFile(one+".img", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	d, err := loop.Attach(loop.Config{File: image, SectorSize: 512, Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	if err := scratch.MountDevice(d, two, "btrfs", unix.MS_NOATIME, ""); errors.Is(err, unix.EEXIST) {
		tests.Skip(t, "this kernel does not mount one btrfs from two devices")
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(two, unix.MNT_DETACH)

	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "from another device") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = Create(ctx, NewSR{UUID: uuid.NewString(), Configuration: map[string]string{"path": filepath.Join(two, "empty")}})
	refused("create", err)
	configuration["path"] = filepath.Join(two, "sr")
	_, err = Attach(ctx, configuration)
	refused("attach", err)
	_, _, err = Relocate(ctx, filepath.Join(two, "sr"))
	refused("rehome", err)
	if left, _ := os.ReadDir(filepath.Join(two, "empty")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
