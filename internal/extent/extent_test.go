package extent

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"reflinksr/internal/fault"
)

// What the kernel says of an extent: only what is certain is taken for certain.
func TestFlags(t *testing.T) {
	for flags, want := range map[uint32][3]bool{ // shared, unwritten, vague
		0: {}, 0x1: {}, 0x2000: {true, false, false}, 0x800: {false, true, false}, 0x2800: {true, true, false},
		0x2: {false, false, true}, 0x4: {false, false, true}, 0x8: {false, false, true}, 0x80: {false, false, true}, 0x100: {false, false, true}, 0x200: {false, false, true}, 0x400: {false, false, true}, 0x2008: {true, false, true},
	} {
		if e := (Extent{Flags: flags}); e.Shared() != want[0] || e.Unwritten() != want[1] || e.Vague() != want[2] {
			t.Errorf("%#x: shared %v, unwritten %v, vague %v", flags, e.Shared(), e.Unwritten(), e.Vague())
		}
	}
}

// A file has the extents that were written, in order, or its filesystem cannot tell.
func TestExtentsOfAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Count(f); errors.Is(err, fault.ErrNoExtents) {
		return // on tmpfs, say
	}
	if n, err := Count(f); n != 0 || err != nil {
		t.Errorf("an empty file has %d extents, %v", n, err)
	}
	const mib = 1 << 20
	for _, at := range []int64{0, 3 * mib, 9 * mib} {
		if _, err := f.WriteAt(make([]byte, mib), at); err != nil {
			t.Fatal(err)
		}
	}
	var end, held, written int64 // XFS also holds what it has allocated ahead
	err = Each(f, func(e Extent) bool {
		if e.Logical < end || e.Length <= 0 {
			t.Errorf("%+v after %d", e, end)
		}
		end, held = e.Logical+e.Length, held+e.Length
		for _, at := range []int64{0, 3 * mib, 9 * mib} {
			if !e.Unwritten() {
				written += max(0, min(end, at+mib)-max(e.Logical, at))
			}
		}
		return true
	})
	if err != nil || written != 3*mib {
		t.Errorf("%d bytes of what was written, %v", written, err)
	}
	count, err := Count(f)
	u, err2 := UsageOf(f)
	if err != nil || err2 != nil || u.Extents != count || u.Shared+u.Exclusive != held || count < 3 {
		t.Errorf("%d extents, %v; %+v, %v", count, err, u, err2)
	}
	c := NewCursor(f, 4*mib)
	if e, ok, err := c.Next(); !ok || err != nil || e.Logical+e.Length <= 4*mib {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	if err := AskForOne(f); err != nil {
		t.Error(err)
	}
}

// Items of a tree come one behind the other, of whatever length.
func TestItems(t *testing.T) {
	var buffer []byte
	u64 := func(n uint64) { buffer = binary.NativeEndian.AppendUint64(buffer, n) }
	u32 := func(n uint32) { buffer = binary.NativeEndian.AppendUint32(buffer, n) }
	want := []string{"first", "", "the third"}
	for i, item := range want {
		u64(7) // transid
		u64(uint64(100 + i))
		u64(uint64(200 + i))
		u32(uint32(i))
		u32(uint32(len(item)))
		buffer = append(buffer, item...)
	}
	n := 0
	items(append(buffer, make([]byte, 100)...), uint32(len(want)), func(object uint64, kind uint32, offset uint64, item []byte) {
		if object != uint64(100+n) || offset != uint64(200+n) || kind != uint32(n) || string(item) != want[n] {
			t.Errorf("%d: %d %d %d %q", n, object, kind, offset, item)
		}
		n++
	})
	if n != len(want) {
		t.Errorf("%d items", n)
	}
}
