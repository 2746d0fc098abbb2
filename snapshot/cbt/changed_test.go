package cbt

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/extent"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

// failing answers a function that ends the test by an error.
func failing(t *testing.T) func(error) {
	return func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// trackedDisk makes a volume of size bytes with changed block tracking.
func trackedDisk(t *testing.T, b *bed, size int64) volume.Volume {
	t.Helper()
	v, err := volume.Create(b.handle, "disk", "", size, false)
	if err == nil {
		err = EnableCBT(b.handle, v.Key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What only snapshots whose data was destroyed have is given back once the disk has
// overwritten it, however many they are and however it is stored: two of them must not
// keep it for each other. What they tell stays.
func TestDestroyedSnapshotsKeepNothing(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			bed := newBed(t, l, 600<<20)
			const size = 8 << 20
			must := failing(t)
			v := trackedDisk(t, bed, size)
			path := filepath.Join(bed.dir, string(v.Key))
			fill := func(text string) {
				t.Helper()
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				must(err)
				_, err = f.Write(bytes.Repeat([]byte(text), size/len(text)))
				must(err)
				must(f.Sync())
				must(f.Close())
			}
			fill("old.")
			var destroyed []sr.Key
			for range 3 {
				s, err := snapshot.Snapshot(bed.handle, v.Key)
				must(err)
				destroyed = append(destroyed, s.Key)
			}
			for _, key := range destroyed {
				must(DestroyData(bed.handle, key))
			}
			fill("new.")
			must(bed.settle())
			must(DestroyData(bed.handle, destroyed[0])) // once more: an occasion
			for i, key := range destroyed {
				f, err := os.Open(filepath.Join(bed.dir, string(key)))
				must(err)
				u, err := extent.UsageOf(f)
				f.Close()
				must(err)
				if u.Exclusive+u.Shared != 0 {
					t.Errorf("%d bytes of destroyed snapshot %d are still there", u.Exclusive+u.Shared, i)
				}
				for _, other := range []struct {
					key  sr.Key
					want string
				}{{v.Key, "////////////////////"}, {destroyed[0], "AAAAAAAAAAAAAAAAAAAA"}} {
					c, err := ListChangedBlocks(context.Background(), bed.handle, key, other.key, 0, -1)
					must(err)
					if c.Bitmap[:20] != other.want {
						t.Errorf("changed between destroyed snapshot %d and %s: %s", i, other.key, c.Bitmap)
					}
				}
			}
			if lines := complaints.take(); lines != nil {
				t.Error(lines)
			}
		})
	}
}

// What is asked in parts is answered as if it were asked at once.
func TestPartsAreAsTheWhole(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			bed := newBed(t, l, 600<<20)
			const size, blocks = 8 << 20, 8 << 20 / granularity
			must := failing(t)
			v := trackedDisk(t, bed, size)
			f, err := os.OpenFile(filepath.Join(bed.dir, string(v.Key)), os.O_WRONLY, 0)
			must(err)
			defer f.Close()
			_, err = f.Write(bytes.Repeat([]byte("old."), size/4))
			must(err)
			must(f.Sync())
			s, err := snapshot.Snapshot(bed.handle, v.Key)
			must(err)
			for at := int64(0); at < size; at += 5 * granularity {
				_, err := f.WriteAt([]byte("new."), at)
				must(err)
			}
			must(f.Sync())
			bits := func(first, count int64) (changed []bool) {
				c, err := ListChangedBlocks(context.Background(), bed.handle, s.Key, v.Key, first*granularity, count*granularity)
				must(err)
				data, err := base64.StdEncoding.DecodeString(c.Bitmap)
				must(err)
				for i := range count {
					changed = append(changed, data[i/8]&(0x80>>(i%8)) != 0)
				}
				return changed
			}
			for i, changed := range bits(0, blocks) {
				if changed != (i%5 == 0) {
					t.Errorf("block %d changed: %v", i, changed)
				}
			}
			for first := int64(1); first < blocks; first += 7 {
				for i, changed := range bits(first, min(11, blocks-first)) {
					if b := int(first) + i; changed != (b%5 == 0) {
						t.Errorf("block %d changed, asked from block %d on: %v", b, first, changed)
					}
				}
			}
		})
	}
}

// That the tree has nothing of a block is not believed of a disk that can be written to
// meanwhile: FIEMAP, which locks what it reads, says where there are holes.
func TestHolesOfDisksInUseAreMapped(t *testing.T) {
	bed := newBed(t, layouts[0], 600<<20)
	v, err := volume.Create(bed.handle, "disk", "", 1<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	mapped := func() bool {
		s, err := sr.Open(bed.handle, dirfs.Shared)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		d, err := openDisk(s, v.Key)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		_, tree := d.from(0).(*treeCursor)
		return !tree
	}
	d := &modelDisk{key: v.Key, writable: true}
	idle := !extent.TreeTells() // such a kernel does not tell when it is in the tree
	if mapped() != idle {
		t.Errorf("a disk that nobody uses is read by FIEMAP: %v", !idle)
	}
	if err := bed.attach(d); err != nil {
		t.Fatal(err)
	}
	if !mapped() {
		t.Error("a disk in use is read by the tree alone")
	}
	if err := bed.detach(d); err != nil {
		t.Fatal(err)
	}
	if mapped() != idle {
		t.Errorf("a disk that is not in use any more is read by FIEMAP: %v", !idle)
	}
}

// Where FIEMAP finds something and the tree does not, nobody knows what it is.
func TestMappedCursor(t *testing.T) {
	maps := list{{start: 0, end: 10}, {start: 10, end: 30, what: unsure, allocated: true, shared: true}, {start: 30, end: 40, what: stored, place: 7, allocated: true}, {start: 40, end: endless, what: beyond}}
	tree := list{{start: 0, end: 5, what: stored, place: 1}, {start: 5, end: 15}, {start: 15, end: 20, what: stored, extent: 3, place: 2}, {start: 20, end: 40}, {start: 40, end: endless, what: beyond}}
	c := &mappedCursor{fiemap: walker{cursor: &maps}, tree: walker{cursor: &tree}}
	for _, want := range []segment{
		{start: 0, end: 10},
		{start: 10, end: 15, what: unsure, allocated: true, shared: true},
		{start: 15, end: 20, what: stored, extent: 3, place: 2, allocated: true, shared: true},
		{start: 20, end: 30, what: unsure, allocated: true, shared: true},
		{start: 30, end: 40, what: stored, place: 7, allocated: true},
		{start: 40, end: endless, what: beyond},
	} {
		if got, err := c.next(); got != want || err != nil {
			t.Fatalf("%+v, %v, not %+v", got, err, want)
		}
	}
}
