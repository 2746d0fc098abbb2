package volume

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
)

// A volume holds what it was made from, and its zeros are holes; it is there only if all of that came.
func TestCreateFrom(t *testing.T) {
	handle, path := plain(t)
	noise := bytes.Repeat([]byte{7}, 10000)
	v, err := CreateFrom(handle, &Record{Name: "copy", ReadWrite: true, SectorSize: 4096}, 1<<20+512, func(to Sink) error {
		_, err := to.Write(noise)
		return errors.Join(err, to.Zeros(1<<20-int64(len(noise))), func() error { _, err := to.Write(noise[:512]); return err }(), to.End())
	})
	if err != nil || v.VirtualSize != 1<<20+4096 || !v.ReadWrite || v.Name != "copy" {
		t.Fatalf("%+v, %v", v, err)
	}
	want := make([]byte, 1<<20+4096)
	copy(want, noise)
	copy(want[1<<20:], noise[:512])
	if got, err := os.ReadFile(filepath.Join(path, string(v.Key))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r, err := Load(openSR(t, handle, dirfs.Unlocked), v.Key); err != nil || r.SectorSize != 4096 {
		t.Errorf("%+v, %v", r, err)
	}
	if v.PhysicalUtilisation > 64<<10 {
		t.Errorf("%d bytes are allocated", v.PhysicalUtilisation)
	}
	before := files(t, path)
	failed := errors.New("the source failed")
	for name, give := range map[string]func(Sink) error{
		"too little":  func(to Sink) error { return to.Zeros(100) },
		"too much":    func(to Sink) error { return to.Zeros(1 << 30) },
		"a byte more": func(to Sink) error { _, err := to.Write(make([]byte, 4097)); return err },
		"backwards":   func(to Sink) error { return to.Zeros(-1) },
		"an error":    func(to Sink) error { _, err := to.Write(noise[:1000]); return errors.Join(err, failed) },
	} {
		if v, err := CreateFrom(handle, &Record{Name: "copy", ReadWrite: true}, 4096, give); err == nil || v.Key != "" {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
		if after := files(t, path); !slices.Equal(after, before) {
			t.Errorf("%s leaves %q, was %q", name, after, before)
		}
	}
	for _, size := range []int64{0, -1, MaxSize + 1} {
		if _, err := CreateFrom(handle, &Record{}, size, func(Sink) error { return nil }); !errors.Is(err, fault.ErrSize) {
			t.Errorf("%d: %v", size, err)
		}
	}
}

// A disk is as long as what was given for it, whole sectors, and its zeros are holes.
func TestCreateAsLong(t *testing.T) {
	handle, path := plain(t)
	v, err := CreateAsLong(handle, &Record{Name: "stream", ReadWrite: true}, func(to Sink) error {
		_, err := to.Write([]byte("some"))
		return errors.Join(err, to.Zeros(3<<20))
	})
	if err != nil || v.VirtualSize != 3<<20+4096 || v.PhysicalUtilisation > 64<<10 || v.Name != "stream" {
		t.Fatalf("%+v, %v", v, err)
	}
	got, err := os.ReadFile(filepath.Join(path, string(v.Key)))
	if err != nil || string(got[:4]) != "some" || !bytes.Equal(got[4:], make([]byte, 3<<20+4092)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	before := files(t, path)
	if _, err := CreateAsLong(handle, &Record{}, func(Sink) error { return nil }); !errors.Is(err, fault.ErrSize) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := CreateAsLong(handle, &Record{}, func(to Sink) error { return to.Zeros(MaxSize + 1) }); !errors.Is(err, fault.ErrSize) {
		t.Errorf("of too much: %v", err)
	}
	if after := files(t, path); !slices.Equal(after, before) {
		t.Errorf("it leaves %q, was %q", after, before)
	}
}
