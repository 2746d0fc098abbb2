package blockdev

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"reflinksr/internal/sys"
)

// guestDevices are kinds of devices that nobody makes an SR on, but that may be a guest's disk.
var guestDevices = []string{"loop", "ram", "zram", "nbd", "td", "sr", "fd", "drbd"}

// looksBlank says whether the disk is one that an SR could be made on, at a glance.
func (d *Disk) looksBlank() bool {
	name := strings.TrimPrefix(d.path, "/dev/")
	if slices.ContainsFunc(guestDevices, func(kind string) bool { return strings.HasPrefix(name, kind) }) || len(d.Partitions()) > 0 {
		return false
	}
	if mapped := sys.Text(d.sys + "/dm/uuid"); mapped != "" && !strings.HasPrefix(mapped, "mpath-") {
		return false // a logical volume
	}
	at, err := d.FirstByte(128 << 10)
	return err == nil && at < 0
}

// ClearEnd is how much of either end of a disk is overwritten before a new filesystem is
// made, and must be zero on one that is blank, in bytes: all that tells what a disk carries
// is there, but for the copies of btrfs's superblock.
const ClearEnd = 4 << 20

// FirstByte is where the first byte is that is not zero within so many bytes of the ends of
// the disk; -1 if there is none. What mkfs.btrfs left that was killed does not count.
func (d *Disk) FirstByte(within int64) (int64, error) {
	within = min(within, d.size)
	data := make([]byte, within)
	for _, offset := range []int64{0, d.size - within} {
		if _, err := d.f.ReadAt(data, offset); err != nil {
			return 0, err
		}
		if i := slices.IndexFunc(data, func(b byte) bool { return b != 0 }); i >= 0 {
			at := offset + int64(i)
			if left, err := d.beginsBtrfs(at); err != nil || !left {
				return at, err
			}
			// That looked at more of the beginning than this.
		}
	}
	if size, err := d.f.Seek(0, io.SeekEnd); err != nil || size != d.size {
		return 0, errors.Join(fmt.Errorf("it has %d bytes, and had %d a moment ago", size, d.size), err)
	}
	return -1, nil
}

// beginsBtrfs says whether the byte is of a disk that holds the first trees of a btrfs and
// nothing else where the others would be: of a mkfs.btrfs that was killed before it wrote
// a superblock.
func (d *Disk) beginsBtrfs(at int64) (bool, error) {
	if at < btrfsFirstTrees || at >= btrfsAfterMkfs {
		return false, nil
	}
	block := make([]byte, BtrfsNode)
	for offset := int64(0); offset < min(btrfsAfterMkfs, d.size); offset += BtrfsNode {
		n, err := d.f.ReadAt(block[:min(BtrfsNode, d.size-offset)], offset)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }) && (n < BtrfsNode || !isFirstTree(block, offset)) {
			return false, nil
		}
	}
	return true, nil
}
