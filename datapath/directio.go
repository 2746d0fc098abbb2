package datapath

import (
	"log/slog"

	"reflinksr/internal/hostinfo"
	"reflinksr/internal/loop"
)

// disk is what decides whether direct I/O is asked for.
type disk struct {
	filesystem string
	checksums  bool // btrfs keeps checksums of the file's data
	sectorSize int  // bytes
	kernel     hostinfo.Kernel
}

// directIO decides whether a device shall bypass the page cache of its file. It is asked for wherever it is right; on XFS
// the kernel may not grant it, which changes speed and nothing that a guest can see.
//
//   - btrfs with checksums never: a guest that touches a buffer during a read would get a false I/O error.
//   - XFS since Linux 5.4. Before, FICLONE locks its source as overwrites do that bypass the cache, shared: a snapshot
//     would not be one moment (docs/scaling.md).
//   - NFS always: a snapshot that another host takes has what the server has, and so must have every write that was
//     acknowledged.
//   - Others (OCFS2) where no request is less than a block of the filesystem.
func directIO(d disk) bool {
	switch d.filesystem {
	case "btrfs":
		return !d.checksums
	case "xfs":
		return d.kernel.AtLeast(5, 4)
	case "nfs":
		return true
	default:
		return d.sectorSize == 4096
	}
}

// tellDirectIO logs what the kernel made of what was asked for: it says nothing itself.
func tellDirectIO(d loop.Device, asked bool, have loop.Info) {
	switch {
	case have.DirectIO == asked:
	case asked && have.SectorSize == 512:
		slog.Warn("the kernel grants no direct I/O with sectors of 512 bytes here, as Linux 6.15 and later on XFS once a disk has had a snapshot: reads are slower and are kept in this host's memory; disks of an SR with sector_size 4096 have it always", "device", d.Path())
	default:
		slog.Warn("direct I/O is not as asked for", "device", d.Path(), "asked", asked)
	}
}
