// Package load takes snapshots of disks that are being written to, and judges each:
// it must be what the disk held at one moment between the call and its answer.
//
// Three loads, on each filesystem with direct I/O on and off:
//
//   - direct: several writers, each of whose writes is acknowledged before its next
//     one; every block tells who wrote it and when.
//   - buffered: writes that are still in the page cache of this host when the call begins.
//   - files: an ext4 on the disk, with files created, fsynced and renamed.
package load
