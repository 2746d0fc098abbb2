package filesystem

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
)

func TestKinds(t *testing.T) {
	for kind, want := range map[string][2]bool{ // clustered, maps extents
		"btrfs": {false, true}, "xfs": {false, true}, "ext4": {false, true}, "tmpfs": {false, true}, "nfs": {true, false}, "ocfs2": {true, true}, "whatever": {true, true},
	} {
		if fs := (Identity{Type: kind}); fs.Clustered() != want[0] || fs.MapsExtents() != want[1] {
			t.Errorf("%s: clustered %v, maps extents %v", kind, fs.Clustered(), fs.MapsExtents())
		}
	}
}

// What is running out is told before it has, with what sets the bound and what to do.
func TestRoomWarning(t *testing.T) {
	const g = int64(1) << 30
	for _, c := range []struct {
		why  string
		room Room
		says []string // none: nothing is said
	}{
		{"half full", Room{Total: 100 * g, Free: 50 * g, raise: "add space"}, nil},
		{"a twentieth", Room{Total: 100 * g, Free: 5 * g, raise: "add space"}, nil},
		{"less than that", Room{Total: 100 * g, Free: 5*g - 1, raise: "add space"}, []string{"the filesystem is nearly used up", "100 GiB", "add space"}},
		{"much of a large one", Room{Total: 10000 * g, Free: 11 * g, raise: "add space"}, nil},
		{"little of a large one", Room{Total: 10000 * g, Free: 9 * g, raise: "add space"}, []string{"nearly used up: 9 GiB"}},
		{"full", Room{Total: 100 * g, raise: "add space"}, []string{"the filesystem is used up", "guests' writes fail"}},
		{"over a quota", Room{Total: g, Free: -g, quota: "btrfs qgroup 0/5 (1 GiB)", raise: "raise the limit"}, []string{"the quota of btrfs qgroup 0/5 (1 GiB) is used up", "raise the limit"}},
		{"many inodes", Room{Total: 100 * g, Free: 50 * g, counted: true, inodes: 300}, nil},
		{"few inodes", Room{Total: 100 * g, Free: 50 * g, counted: true, inodes: 299}, []string{"299 inodes left"}},
		{"no inodes", Room{Total: 100 * g, Free: 50 * g, counted: true}, []string{"no inodes left", "though 50 GiB are free"}},
		{"little space and few inodes", Room{Total: 100 * g, Free: g, counted: true, inodes: 3}, []string{"nearly used up", "3 inodes left"}},
		{"full, whatever inodes there are", Room{Total: 100 * g, counted: true}, []string{"is used up"}},
	} {
		got := c.room.Warning()
		if (got == "") != (c.says == nil) {
			t.Errorf("%s: %q", c.why, got)
		}
		for _, text := range c.says {
			if !strings.Contains(got, text) {
				t.Errorf("%s: %q, want %q in it", c.why, got, text)
			}
		}
	}
	if got := (quota{group: 1<<48 | 100, limit: 3 * g}).String(); got != "btrfs qgroup 1/100 (3 GiB)" {
		t.Error(got)
	}
}

// The paths to which something was refused are found wherever in an error they are.
func TestRefused(t *testing.T) {
	a := &os.PathError{Op: "open", Path: "/a", Err: unix.EROFS}
	b := &os.LinkError{Op: "rename", Old: "/b", New: "/c", Err: unix.EROFS}
	for want, err := range map[string]error{
		"/a": fmt.Errorf("x: %w", a), "/b /c": b, "/a /b /c": errors.Join(a, fmt.Errorf("y: %w", b)),
		"": errors.Join(&os.PathError{Op: "open", Path: "/a", Err: unix.EPERM}, errors.New("z")),
	} {
		if got := strings.Join(refused(err, unix.EROFS), " "); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := Refusal(a); !strings.Contains(got, "read-only") {
		t.Error(got)
	}
	if got := Refusal(&os.PathError{Op: "open", Path: t.TempDir(), Err: unix.EPERM}); got != "" {
		t.Errorf("nothing is known of this: %q", got)
	}
	if Refusal(unix.EIO) != "" || Refusal(nil) != "" {
		t.Error("what was not refused was")
	}
}

// A directory tells the same of its filesystem whenever it is asked, and leaves no trace of it.
func TestDirectory(t *testing.T) {
	d, err := dirfs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	one, err := Of(d)
	two, err2 := Of(d)
	if err != nil || err2 != nil || one != two || one.Type == "" {
		t.Errorf("%+v, %v; %+v, %v", one, err, two, err2)
	}
	if what, _, err := ReadOnly(d); what != "" || err != nil {
		t.Errorf("it can be written to: %q, %v", what, err)
	}
	total, free, err := Space(d)
	if err != nil || free > total || total <= 0 {
		t.Errorf("%d of %d, %v", free, total, err)
	}
	if fixed, err := Fixed(d, "."); fixed || err != nil {
		t.Errorf("%v, %v", fixed, err)
	}
	full := fmt.Errorf("x: %w", unix.ENOSPC)
	if got := Explain(d.Path(), full); !errors.Is(got, unix.ENOSPC) {
		t.Error(got)
	}
	if got := Explain(d.Path(), unix.EIO); got != unix.EIO {
		t.Errorf("nothing has run out: %v", got)
	}
	if err := AwaitFreed(d, Identity{Type: "btrfs"}); err != nil {
		t.Error(err)
	}
	if names, err := d.Names(); err != nil || len(names) > 0 {
		t.Errorf("left: %q, %v", names, err)
	}
}
