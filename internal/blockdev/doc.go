// Package blockdev is the host's block devices: what each is, whose it is, who uses it, by which paths, what its
// superblocks say, and how one is claimed and made blank. A guest chooses what its disk contains, so whose a disk is never
// follows from that. Another disk that is slow or dead holds nothing up: disks are looked at by processes of their own, for a
// bounded time.
package blockdev
