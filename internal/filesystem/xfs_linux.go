package filesystem

import (
	"fmt"
	"unsafe"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/sys"
	"reflinksr/internal/units"
	"reflinksr/internal/xfs"
)

const xfsIocFsgrowfsdata = 0x4010586e // XFS_IOC_FSGROWFSDATA, xfs_fs.h

// xfsGrowFsData is struct xfs_growfs_data.
type xfsGrowFsData struct {
	blocks uint64
	imax   uint32
	_      uint32
}

// GrowXFS makes the mounted XFS as large as its disk, which has so many bytes. One that is as large stays.
func GrowXFS(d *dirfs.Dir, size int64) error {
	geo, err := geometryOf(d)
	if err != nil {
		return err
	}
	if geo.blocksize == 0 {
		return fmt.Errorf("%s: XFS tells of blocks of no size", d.Path())
	}
	blocks := uint64(size) / uint64(geo.blocksize) // #nosec G115 -- the kernel's own
	// A group that would be smaller than this is left out (XFS_MIN_AG_BLOCKS).
	if blocks < geo.blocks+minGroup {
		return nil
	}
	grow := xfsGrowFsData{blocks: blocks, imax: geo.imax}
	if err := sys.Ioctl(d.File(), xfsIocFsgrowfsdata, unsafe.Pointer(&grow)); err != nil {
		return fmt.Errorf("%s: growing the XFS to %s, the size of its disk: %w", d.Path(), units.Bytes(size), err)
	}
	return nil
}

const minGroup = 64 // blocks

// NewerFeatures lists what hosts with Linux 4.19 would refuse to mount the filesystem for: of XFS, what it
// is made of and they do not know.
func NewerFeatures(d *dirfs.Dir) ([]xfs.Feature, error) {
	if kind, err := sys.KindOf(d.File()); err != nil || kind != "xfs" {
		return nil, err
	}
	geo, err := geometryOf(d)
	return xfs.OfGeometry(geo.flags), err
}

// OlderHosts says in a sentence which hosts would not mount a filesystem with those features; "" if all would.
func OlderHosts(list []xfs.Feature) string {
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprintf("hosts with Linux before %s, as XCP-ng 8.3 with 4.19, cannot mount this XFS: it was made with %s", xfs.FirstLinux(list), xfs.Names(list))
}
