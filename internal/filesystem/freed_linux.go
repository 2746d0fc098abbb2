package filesystem

import (
	"fmt"
	"math"
	"unsafe"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/sys"
)

const (
	xfsIocFreeEOFBlocks = 0x8080583a // XFS_IOC_FREE_EOFBLOCKS (xfs_fs.h)
	xfsEOFVersion       = 1          // XFS_EOFBLOCKS_VERSION
	xfsEOFMinFileSize   = 1 << 4     // XFS_EOF_FLAGS_MINFILESIZE
)

// xfsEOFBlocks is struct xfs_fs_eofblocks.
type xfsEOFBlocks struct {
	version, flags, uid, gid, project, _ uint32
	minFileSize                          uint64
	_                                    [12]uint64
}

// AwaitFreed waits until the blocks of files that were removed are free. XFS does that
// in the background, and as long others seem to share them. fs is the directory's filesystem.
func AwaitFreed(d *dirfs.Dir, fs Identity) error {
	if fs.Type != "xfs" {
		return nil
	}
	// It frees what was allocated beyond the ends of files that are so long, that is of
	// none; what counts is that it then waits for the background.
	request := xfsEOFBlocks{version: xfsEOFVersion, flags: xfsEOFMinFileSize, minFileSize: math.MaxInt64}
	if err := sys.Ioctl(d.File(), xfsIocFreeEOFBlocks, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("%s: waiting until removed files are freed: %w", d.Path(), err)
	}
	return nil
}
