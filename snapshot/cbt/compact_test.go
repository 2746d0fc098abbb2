package cbt

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/extent"
	"reflinksr/internal/fault"
	"reflinksr/scripts/tests"
	"reflinksr/snapshot"
	"reflinksr/sr"
	"reflinksr/volume"
)

// A disk that was overwritten in pieces after snapshots that are gone is compacted: every byte that no file shows is free then,
// as many as were told, the disk holds what it held, in as much room that reads as zeros, and what a snapshot shares
// with it is shared still.
func TestCompact(t *testing.T) {
	for _, l := range layouts {
		if l.kind != "btrfs" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			b := newBed(t, l, 2<<30)
			random := rand.New(rand.NewPCG(1, 2))
			freed, compressed := int64(0), false
			for range tests.Share(1, 4) {
				d := newWornDisk(t, b, random, l.mount == "")
				compressed = compressed || d.compressed()
				freed += d.compact(30) + d.compact(0)
				if u := d.usage(); l.mount == "" && u.Pinned != 0 {
					t.Errorf("there are still %d bytes that no file shows", u.Pinned)
				}
				d.destroy()
			}
			if freed == 0 {
				t.Error("nothing was given back")
			}
			if l.mount != "" && !compressed {
				t.Error("nothing was compressed")
			}
		})
	}
}

// wornDisk is a disk some of whose extents it has only a part of, and a snapshot that shares some.
type wornDisk struct {
	t        *testing.T
	b        *bed
	key, kin sr.Key
	bytes    []byte
}

// newWornDisk makes one, to which also zeros are written, if room: after that a disk is not compressed any more.
func newWornDisk(t *testing.T, b *bed, random *rand.Rand, room bool) *wornDisk {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	v, err := volume.Create(b.handle, "worn", "", 32<<20, false)
	must(err)
	d := &wornDisk{t: t, b: b, key: v.Key}
	wear := func(n int, most int64) {
		f, err := os.OpenFile(d.path(), os.O_RDWR, 0)
		must(err)
		defer f.Close()
		for range n {
			at := random.Int64N(v.VirtualSize/4096) * 4096
			length := min(v.VirtualSize-at, (1+random.Int64N(most/4096))*4096)
			switch n := random.IntN(10); {
			case n == 0:
				err = fallocate(d.path(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length)
			case n < 3 && room:
				err = fallocate(d.path(), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, length)
			default:
				data := make([]byte, length)
				for i := 0; i < len(data); i += 1 + random.IntN(16) {
					data[i] = byte(random.IntN(256))
				}
				_, err = f.WriteAt(data, at)
			}
			must(err)
		}
		must(f.Sync())
	}
	wear(12, 8<<20)
	old, err := snapshot.Snapshot(b.handle, d.key)
	must(err)
	d.kin = old.Key
	wear(8, 4<<20) // which the snapshot has not
	for range 2 {
		passing, err := snapshot.Snapshot(b.handle, d.key)
		must(err)
		wear(60, 64<<10)
		must(Destroy(b.handle, passing.Key))
	}
	d.bytes, err = os.ReadFile(d.path())
	must(err)
	return d
}

func (d *wornDisk) path() string { return filepath.Join(d.b.dir, string(d.key)) }

func (d *wornDisk) usage() (u extent.Usage) {
	d.t.Helper()
	f, err := os.Open(d.path())
	if err == nil {
		defer f.Close()
		u, err = extent.UsageOf(f)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return u
}

// items are the pieces of the disk.
func (d *wornDisk) items() (all []extent.Item) {
	d.t.Helper()
	f, err := os.Open(d.path())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	items, err := extent.NewItems(f, 0)
	for err == nil {
		var i extent.Item
		var ok bool
		if i, ok, err = items.Next(); !ok {
			break
		}
		all = append(all, i)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (d *wornDisk) compressed() bool {
	return slices.ContainsFunc(d.items(), func(i extent.Item) bool { return i.Kind == extent.ItemCompressed })
}

// laidOut is how many bytes of the disk are data, and how many read as zeros with room.
func (d *wornDisk) laidOut() (data, unwritten int64) {
	for _, i := range d.items() {
		switch {
		case i.Kind == extent.ItemUnwritten:
			unwritten += i.Length
		case i.Stored():
			data += i.Length
		}
	}
	return data, unwritten
}

func (d *wornDisk) used() int64 {
	d.t.Helper()
	n, err := d.b.used()
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *wornDisk) compact(percent int) (freed int64) {
	d.t.Helper()
	before, was := d.used(), d.usage()
	data, unwritten := d.laidOut()
	list, err := Compare(context.Background(), d.b.handle, d.kin, d.key)
	if err != nil {
		d.t.Fatal(err)
	}
	told, err := volume.PlanCompaction(d.b.handle, d.key, percent)
	if err != nil {
		d.t.Fatal(err)
	}
	last := int64(0)
	done, err := volume.Compact(context.Background(), d.b.handle, d.key, percent, func(n, of int64) {
		if n < last || n > of || of != told.Writes {
			d.t.Errorf("%d of %d bytes were written, of %d", n, of, told.Writes)
		}
		last = n
	})
	if err != nil {
		d.t.Fatal(err)
	}
	freed = before - d.used()
	if freed != done.GivesBack || done.Writes > told.Writes {
		d.t.Errorf("%d bytes were given back: it was planned as %+v, and answered as %+v", freed, told, done)
	}
	now := d.usage()
	if now.Shared != was.Shared || now.Pinned > was.Pinned {
		d.t.Errorf("it occupied %+v, and occupies %+v", was, now)
	}
	if x, y := d.laidOut(); x != data || y != unwritten {
		d.t.Errorf("it had %d bytes of data and room for %d, and has %d and %d", data, unwritten, x, y)
	}
	if after, err := Compare(context.Background(), d.b.handle, d.kin, d.key); err != nil || !slices.Equal(after.Ranges, list.Ranges) {
		d.t.Errorf("compared with its snapshot, it was %v, and is %v: %v", list, after, err)
	}
	if have, err := os.ReadFile(d.path()); err != nil || !bytes.Equal(have, d.bytes) {
		d.t.Errorf("it does not hold what it held: %v", err)
	}
	return freed
}

// destroy ends the snapshot and then the disk: each gives back what is told of it.
func (d *wornDisk) destroy() {
	d.t.Helper()
	for _, key := range []sr.Key{d.kin, d.key} {
		before := d.used()
		told := (&wornDisk{t: d.t, b: d.b, key: key}).usage()
		if err := Destroy(d.b.handle, key); err != nil {
			d.t.Fatal(err)
		}
		if freed := before - d.used(); freed != told.GivesBack {
			d.t.Errorf("destroying it was to give back %d bytes, and gave back %d: %+v", told.GivesBack, freed, told)
		}
	}
}

// Whoever writes to a disk's file beside everybody's back while it is compacted loses nothing: compacting ends with
// that, and what it has done until then stands.
func TestCompactLosesNoWrite(t *testing.T) {
	b := newBed(t, layouts[1], 2<<30)
	d := newWornDisk(t, b, rand.New(rand.NewPCG(3, 4)), true)
	if err := Destroy(b.handle, d.kin); err != nil { // then nearly all of it is its own
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		random, text := rand.New(rand.NewPCG(5, 6)), make([]byte, 4096)
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			at := random.IntN(len(d.bytes)/4096) * 4096
			for i := range text {
				text[i] = byte(n >> (i % 4 * 8))
			}
			copy(d.bytes[at:], text)
			if _, err := f.WriteAt(text, int64(at)); err != nil {
				ended <- err
				return
			}
		}
	}()
	noticed := 0
	for range 20 {
		_, err := volume.Compact(context.Background(), b.handle, d.key, 0, func(int64, int64) {})
		switch {
		case errors.Is(err, fault.ErrInUse):
			noticed++
		case err != nil:
			t.Error(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(d.path()); err != nil || !bytes.Equal(have, d.bytes) {
		t.Errorf("a write was lost: %v", err)
	}
	if noticed == 0 {
		t.Error("nobody wrote at the wrong moment")
	}
}

// Compacting that is ended stands as far as it has come, and goes on when it is begun again. Whoever takes the volume between
// two rounds has it, and what a snapshot shares since then is left alone.
func TestCompactGoesOn(t *testing.T) {
	b := newBed(t, layouts[0], 2<<30)
	v, err := volume.Create(b.handle, "large", "", 160<<20, false)
	if err != nil {
		t.Fatal(err)
	}
	d, guest := &wornDisk{t: t, b: b, key: v.Key}, &modelDisk{key: v.Key, writable: true}
	random := rand.New(rand.NewPCG(7, 8))
	wear := func() {
		t.Helper()
		d.bytes = make([]byte, v.VirtualSize)
		for i := 0; i < len(d.bytes); i += 512 {
			d.bytes[i] = byte(random.IntN(255)) + 1
		}
		err := store(d.path(), "buffered", d.bytes, 0)
		passing, e := snapshot.Snapshot(b.handle, d.key)
		err = errors.Join(err, e)
		for range 200 {
			at := random.Int64N(v.VirtualSize/65536) * 65536
			d.bytes[at]++
			err = errors.Join(err, store(d.path(), "buffered", d.bytes[at:at+65536], at))
		}
		if err := errors.Join(err, Destroy(b.handle, passing.Key)); err != nil {
			t.Fatal(err)
		}
	}
	same := func() {
		t.Helper()
		if have, err := os.ReadFile(d.path()); err != nil || !bytes.Equal(have, d.bytes) {
			t.Errorf("it does not hold what it held: %v", err)
		}
	}
	for _, c := range []struct {
		name    string
		between func(end func()) error
		want    error
		left    bool // it has extents of its own then that it uses in part
	}{
		{"ended", func(end func()) error { end(); return nil }, context.Canceled, true},
		{"attached", func(func()) error { return b.attach(guest) }, fault.ErrInUse, true},
		{"snapshot", func(func()) error {
			s, err := snapshot.Snapshot(b.handle, d.key)
			d.kin = s.Key
			return err
		}, nil, false},
	} {
		wear()
		ctx, end := context.WithCancel(context.Background())
		before, pinned, n := d.used(), d.usage().Pinned, 0
		done, err := volume.Compact(ctx, b.handle, d.key, 0, func(int64, int64) {
			if n++; n == 1 {
				if err := c.between(end); err != nil {
					t.Error(err)
				}
			}
		})
		end()
		if !errors.Is(err, c.want) || done.Extents == 0 || done.GivesBack >= pinned {
			t.Errorf("%s: %+v of %d pinned bytes, %v", c.name, done, pinned, err)
		}
		if freed := before - d.used(); freed != done.GivesBack {
			t.Errorf("%s: %d bytes were given back, and told were %d", c.name, freed, done.GivesBack)
		}
		same()
		if left := d.usage().Pinned > 0; left != c.left {
			t.Errorf("%s: that there is still something to do is %v", c.name, left)
		}
		if c.name == "attached" {
			if err := b.detach(guest); err != nil {
				t.Fatal(err)
			}
		}
		if c.name == "snapshot" {
			if err := Destroy(b.handle, d.kin); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := volume.Compact(context.Background(), b.handle, d.key, 0, func(int64, int64) {}); err != nil {
			t.Error(err)
		}
		if u := d.usage(); u.Pinned != 0 {
			t.Errorf("%s, and again: %+v", c.name, u)
		}
		same()
	}
}
