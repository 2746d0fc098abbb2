package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// firstTree is a block as mkfs.btrfs writes it before there is a superblock.
func firstTree(offset int64, generation uint64) []byte {
	block := make([]byte, BtrfsNode)
	binary.LittleEndian.PutUint64(block[48:], uint64(offset))
	binary.LittleEndian.PutUint64(block[80:], generation)
	binary.LittleEndian.PutUint32(block, crc32.Checksum(block[32:], crc32.MakeTable(crc32.Castagnoli)))
	return block
}

// A disk is blank if both its ends are zero. The trees of a mkfs.btrfs that was killed do
// not count; those of a filesystem that was used do, and whatever is beside them.
func TestBlank(t *testing.T) {
	const size = 100 << 20
	for name, c := range map[string]struct {
		at   int64
		data []byte
		want int64
	}{
		"zeros":                        {0, []byte{0}, -1},
		"a byte at the beginning":      {0, []byte{1}, 0},
		"a byte in the middle":         {50 << 20, []byte{1}, -1},
		"a byte at the end":            {size - 1, []byte{1}, size - 1},
		"the last byte that counts":    {ClearEnd - 1, []byte{1}, ClearEnd - 1},
		"a first tree":                 {btrfsFirstTrees, firstTree(btrfsFirstTrees, 1), -1},
		"two of them":                  {btrfsFirstTrees, append(firstTree(btrfsFirstTrees, 1), firstTree(btrfsFirstTrees+BtrfsNode, 1)...), -1},
		"a tree of a used filesystem":  {btrfsFirstTrees, firstTree(btrfsFirstTrees, 7), btrfsFirstTrees},
		"a tree in another's place":    {btrfsFirstTrees, firstTree(btrfsFirstTrees+BtrfsNode, 1), btrfsFirstTrees},
		"a first tree and more later":  {btrfsFirstTrees, append(append(firstTree(btrfsFirstTrees, 1), make([]byte, 20<<20)...), 1), btrfsFirstTrees},
		"a first tree before its time": {0, firstTree(0, 1), 0},
		"a damaged first tree":         {btrfsFirstTrees, append(firstTree(btrfsFirstTrees, 1)[:BtrfsNode-1], 1), btrfsFirstTrees},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := errors.Join(f.Truncate(size), func() error { _, err := f.WriteAt(c.data, c.at); return err }()); err != nil {
				t.Fatal(err)
			}
			d := &Disk{f: f, path: f.Name(), size: size}
			got, err := d.FirstByte(ClearEnd)
			if err != nil || (got < 0) != (c.want < 0) || got >= 0 && (got < c.want || got > c.want+64) {
				t.Errorf("the first byte is at %d, %v; want %d", got, err, c.want)
			}
			// What became shorter meanwhile, or cannot be read, is not blank.
			if err := f.Truncate(size / 2); err != nil {
				t.Fatal(err)
			}
			if at, err := d.FirstByte(ClearEnd); err == nil && at < 0 {
				t.Error("a disk that lost its second half is blank")
			}
		})
	}
}

// Of many things each has its own answer, in their order, whichever process looked at it.
func TestLookAtAll(t *testing.T) {
	for _, what := range []string{"disk", "loop", "mount"} {
		var paths []string
		for i := range 20 {
			paths = append(paths, "/dev/null", fmt.Sprintf("/dev/nowhere%d", i), fmt.Sprintf("/proc/self/nowhere%d", i), "/proc")
		}
		answers := LookAtAll(what, paths)
		for i, path := range paths {
			l, err := lookNow(what, path)
			if got := answers[i]; fmt.Sprint(got.Err) != fmt.Sprint(err) || got.Dev != l.Dev || errors.Is(got.Err, os.ErrNotExist) != errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s %s: %+v, want %+v, %v", what, path, got, l, err)
			}
		}
	}
}

// What looks at a disk is another process, which answers in time or is left to itself.
func TestLook(t *testing.T) {
	if _, err := LookAt("disk", "/dev/null", lookTimeout); err == nil || !strings.Contains(err.Error(), "not a block device") {
		t.Errorf("a look at what is no disk: %v", err)
	}
	if _, err := lookElsewhere("disk", "/dev/null", lookTimeout); errors.Is(err, errNoProcess) || errors.Is(err, ErrMute) {
		t.Errorf("this very program is no process that looks: %v", err)
	}
	if _, err := lookElsewhere("disk", "/dev/null", time.Nanosecond); !errors.Is(err, ErrMute) {
		t.Errorf("after no time it says: %v", err)
	}
	answers := LookAtAll("disk", []string{"/dev/null", "/no/such/device", "/dev/zero"})
	for i, want := range []string{"/dev/null", "/no/such/device", "/dev/zero"} {
		if err := answers[i].Err; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the answer about %s is %v", want, err)
		}
	}
}

// Whose a file is, is told by its name where that is a volume's.
func TestNamedLikeVolume(t *testing.T) {
	for path, want := range map[string]bool{
		"/srv/sr/0a5f8a3e-3b0e-4c8c-9d53-0d7c0f8a2b11":       true,
		"/srv/sr/0A5F8A3E-3B0E-4C8C-9D53-0D7C0F8A2B11":       true,
		"/srv/sr/0a5f8a3e-3b0e-4c8c-9d53-0d7c0f8a2b11.raw":   true,
		"/srv/sr/.reflinksr/staging/x":                       true,
		"/srv/0a5f8a3e-3b0e-4c8c-9d53-0d7c0f8a2b11/disk.img": false,
		"/srv/disk.img":              false,
		"/srv/.reflinksr-image/disk": false,
		"":                           false,
	} {
		if got := namedLikeVolume(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// A copy of a superblock counts only where it is that of a filesystem that begins where the
// disk does: a guest may have the same in its disk, anywhere else.
func TestSecondSuperblocks(t *testing.T) {
	xfs := make([]byte, 512)
	copy(xfs, "XFSB")
	binary.BigEndian.PutUint32(xfs[4:], 4096)
	binary.BigEndian.PutUint32(xfs[84:], 25600) // blocks in a group: 100 MiB
	binary.BigEndian.PutUint32(xfs[88:], 4)
	ext4 := make([]byte, 512)
	binary.LittleEndian.PutUint16(ext4[56:], 0xef53)
	binary.LittleEndian.PutUint32(ext4[24:], 2)
	binary.LittleEndian.PutUint32(ext4[32:], 32768)
	binary.LittleEndian.PutUint16(ext4[90:], 3)
	for _, c := range []struct {
		block []byte
		at    int64
		want  bool
	}{
		{xfs, 100 << 20, true}, {xfs, 300 << 20, true}, {xfs, 0, false}, {xfs, 400 << 20, false}, {xfs, 101 << 20, false},
		{ext4, 384 << 20, true}, {ext4, 128 << 20, false}, {ext4, 0, false}, {make([]byte, 512), 100 << 20, false}, {nil, 100 << 20, false},
	} {
		if got := isSecond(c.block, c.at); (got != "") != c.want {
			t.Errorf("at %d MiB: %q", c.at>>20, got)
		}
	}
	for _, size := range []int64{1, 4096, 8 << 20, 400 << 20, 2 << 40, 100 << 40} {
		places := secondPlaces(size)
		for _, at := range places {
			if at <= 0 || at > size-SuperSize {
				t.Errorf("a disk of %d bytes is read at %d", size, at)
			}
		}
		if len(places) > 400 {
			t.Errorf("a disk of %d bytes is read in %d places", size, len(places))
		}
	}
}
