// Package load takes snapshots of disks that are being written to, and judges each:
// it must be what the disk held at one moment between the call and its answer.
//
// The loads, on each filesystem with direct I/O on and off:
//
//   - direct, and those of shapes: several writers, each of whose operations is acknowledged before its next
//     one; every block that is written tells who wrote it and when. Something befalls the calls in some of them.
//   - buffered: writes that are still in the page cache of this host when the call begins.
//   - files: an ext4 on the disk, with files created, fsynced and renamed.
package load
