package sr

import (
	"fmt"
	"math"
	"unsafe"

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
// in the background, and as long others seem to share them.
func (s *SR) AwaitFreed() error {
	if s.Meta.Filesystem.Type != "xfs" {
		return nil
	}
	// It frees what was allocated beyond the ends of files that are so long, that is of
	// none; what counts is that it then waits for the background.
	request := xfsEOFBlocks{version: xfsEOFVersion, flags: xfsEOFMinFileSize, minFileSize: math.MaxInt64}
	if err := sys.Ioctl(s.Root.File(), xfsIocFreeEOFBlocks, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("%s: waiting until removed files are freed: %w", s.Path, err)
	}
	return nil
}
