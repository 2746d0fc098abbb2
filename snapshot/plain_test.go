package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"reflinksr/internal/fault"
	"reflinksr/internal/plainsr"
	"reflinksr/sr"
	"reflinksr/volume"
)

const (
	aKey     = sr.Key("365c68ee-966a-4644-880d-1122a36ab9a1")
	otherKey = sr.Key("465c68ee-966a-4644-880d-1122a36ab9a1")
)

// What a snapshot, a clone and a copy have of their origin, and what they have not.
func TestDerived(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))
	for _, r := range []*volume.Record{
		{Name: "n", Description: "d", ReadWrite: true, SectorSize: 4096, Sharable: true, CBT: true, Keys: map[string]string{"k": "v"}, Size: 7, Sequence: 9, Created: at},
		{Name: "", SectorSize: 512, Origin: &volume.Origin{Kind: volume.Snapshot, Of: otherKey}},
	} {
		for _, kind := range []volume.Kind{volume.Snapshot, volume.Clone, volume.Copy} {
			made := derived(r, kind, aKey, at)
			if made.Name != r.Name || made.Description != r.Description || made.SectorSize != r.SectorSize || made.Sharable != r.Sharable || made.CBT != r.CBT {
				t.Errorf("%s of %+v: %+v", kind, r, made)
			}
			if made.ReadWrite != (kind != volume.Snapshot) || len(made.Keys) > 0 || made.Size != 0 || made.DataDestroyed || made.Sequence != 0 || !made.Created.IsZero() {
				t.Errorf("%s has what is its origin's: %+v", kind, made)
			}
			if o := made.Origin; o == nil || o.Kind != kind || o.Of != aKey || o.At.Format(time.RFC3339Nano) != "2026-01-02T02:04:05Z" {
				t.Errorf("%s comes from %+v", kind, o)
			}
		}
	}
}

// A disk gets the contents of another only if its guest could read them.
func TestMayRevert(t *testing.T) {
	disk := volume.Record{ReadWrite: true, SectorSize: 512}
	for _, c := range []struct {
		why    string
		r, was volume.Record
		want   error
	}{
		{"to a snapshot", disk, volume.Record{SectorSize: 512}, nil},
		{"to another disk", disk, disk, nil},
		{"a snapshot", volume.Record{SectorSize: 512}, disk, fault.ErrInvalid},
		{"to other sectors", disk, volume.Record{SectorSize: 4096}, fault.ErrInvalid},
		{"to destroyed data", disk, volume.Record{SectorSize: 512, DataDestroyed: true}, fault.ErrNoData},
		{"a snapshot to destroyed data", volume.Record{SectorSize: 512}, volume.Record{SectorSize: 512, DataDestroyed: true}, fault.ErrNoData},
	} {
		if err := mayRevert(aKey, &c.r, otherKey, &c.was); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func TestStall(t *testing.T) {
	if btrfs, xfs := Stall("btrfs", 100_000), Stall("xfs", 100_000); btrfs != 1100*time.Millisecond || xfs != 4*time.Second || Stall("btrfs", 1) != 0 {
		t.Errorf("%v, %v", btrfs, xfs)
	}
}

// A snapshot shares its blocks, or there is none: where that is not possible nothing is copied, and nothing is left.
func TestSharedOrNothing(t *testing.T) {
	handle, path, err := plainsr.Make(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v, err := volume.Create(handle, "n", "", 1<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, string(v.Key)), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	files := func() (names []string) {
		for _, pattern := range []string{"*", ".reflinksr/staging/*", ".reflinksr/locks/*"} {
			found, _ := filepath.Glob(filepath.Join(path, pattern))
			names = append(names, found...)
		}
		return names
	}
	before := files()
	for what, do := range map[string]func() (volume.Volume, error){
		"snapshot": func() (volume.Volume, error) { return Snapshot(handle, v.Key) },
		"clone":    func() (volume.Volume, error) { return Clone(handle, v.Key) },
		"copy":     func() (volume.Volume, error) { return Copy(handle, v.Key, handle) },
	} {
		made, err := do()
		if err == nil { // this filesystem can
			if made.VirtualSize != v.VirtualSize || made.ReadWrite != (what != "snapshot") {
				t.Errorf("%s: %+v", what, made)
			}
			before = files()
			continue
		}
		if after := files(); !slices.Equal(before, after) {
			t.Errorf("%s: files were %q, are %q", what, before, after)
		}
	}
	for what, c := range map[string]struct{ err, want error }{
		"of no volume":     {second(Snapshot(handle, otherKey)), fault.ErrVolumeNotFound},
		"in no SR":         {second(Snapshot("x", v.Key)), fault.ErrNotAttached},
		"to no SR":         {second(Copy(handle, v.Key, "x")), fault.ErrNotAttached},
		"reverted to none": {Revert(handle, otherKey, v.Key), fault.ErrVolumeNotFound},
		"to itself":        {Revert(handle, v.Key, v.Key), fault.ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
}

func second(_ volume.Volume, err error) error { return err }
