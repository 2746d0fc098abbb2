// Package blockdev looks at block devices: what each is, whose it is, who uses it, by which paths, and what its
// superblocks say. A guest chooses what its disk contains, so whose a disk is never follows from that. Another disk
// that is slow or dead holds nothing up: each is looked at by a process of its own, for a bounded time.
package blockdev
