package blockdev

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"reflinksr/internal/uuids"
	"reflinksr/testdata"
)

// shippedImage is the beginning of a filesystem that a real mkfs made.
func shippedImage(t testing.TB, kind string) []byte {
	t.Helper()
	packed, err := testdata.Images.Open("images/" + kind + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(z)
	if _, err := archive.Next(); err != nil {
		t.Fatal(err)
	}
	image := make([]byte, BtrfsSuper+SuperSize)
	if _, err := io.ReadFull(archive, image); err != nil {
		t.Fatal(err)
	}
	return image
}

func TestSuperblock(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		image := shippedImage(t, kind)
		sb, err := readSuperblock(bytes.NewReader(image))
		if err != nil || sb.Kind != kind || !uuids.IsCanonical(sb.UUID) || sb.Devices != 1 || sb.Unfinished || sb.Seed {
			t.Errorf("%s is taken for %+v, %v", kind, sb, err)
		}
	}
	xfs, btrfs := shippedImage(t, "xfs"), shippedImage(t, "btrfs")
	if sb, err := readSuperblock(bytes.NewReader(btrfs)); err != nil || sb.DeviceID != 1 || sb.Generation == 0 {
		t.Errorf("%+v, %v: btrfs numbers its disks from 1, and what was committed", sb, err)
	}

	copy(xfs[108:], "twelve chars")
	copy(btrfs[BtrfsSuper+299:], "a label\x00and more")
	copy(btrfs[BtrfsSuper+136:], []byte{3, 0, 0, 0, 0, 0, 0, 0})
	for image, want := range map[*[]byte]Superblock{
		&xfs:   {Kind: "xfs", Label: "twelve chars", Devices: 1},
		&btrfs: {Kind: "btrfs", Label: "a label", Devices: 3},
	} {
		got, err := readSuperblock(bytes.NewReader(*image))
		want.UUID, want.DeviceID, want.Generation, want.Features = got.UUID, got.DeviceID, got.Generation, got.Features
		if err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}

	xfs[126] = 1
	btrfs[BtrfsSuper+64] = '!'
	for _, image := range [][]byte{xfs, btrfs} {
		if sb, err := readSuperblock(bytes.NewReader(image)); err != nil || !sb.Unfinished {
			t.Errorf("what mkfs has not finished is taken for %+v, %v", sb, err)
		}
	}

	both := append(bytes.Clone(shippedImage(t, "xfs")[:BtrfsSuper]), btrfs[BtrfsSuper:]...)
	for name, image := range map[string][]byte{
		"both at once": both, "nothing": nil, "zeros": make([]byte, 1<<20), "half a superblock": xfs[:100],
		"half of the other": append(make([]byte, BtrfsSuper), btrfs[BtrfsSuper:BtrfsSuper+200]...),
	} {
		if sb, err := readSuperblock(bytes.NewReader(image)); err != nil || sb != (Superblock{}) {
			t.Errorf("%s: %+v, %v", name, sb, err)
		}
	}
}

// Whatever is on a disk, it is taken for a filesystem with a UUID that can be looked for,
// or for none.
func FuzzSuperblock(f *testing.F) {
	f.Add(shippedImage(f, "xfs")[:SuperSize], []byte{})
	f.Add([]byte{}, shippedImage(f, "btrfs")[BtrfsSuper:])
	f.Add([]byte("XFSB"), []byte("_BHRfS_M"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		image := make([]byte, BtrfsSuper+len(second))
		copy(image, first)
		copy(image[BtrfsSuper:], second)
		sb, err := readSuperblock(bytes.NewReader(image))
		switch {
		case err != nil:
			t.Error(err)
		case sb.Kind == "" && sb != (Superblock{}), sb.Kind != "" && (sb.Kind != "xfs" && sb.Kind != "btrfs" || !uuids.IsCanonical(sb.UUID)):
			t.Errorf("%+v", sb)
		}
	})
}
