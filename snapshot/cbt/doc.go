// Package cbt knows what blocks disks share, which of them changed, and what of a destroyed disk only snapshots
// without data still have: it answers what a backup client asks, and acts on it (compose, destroy, destroy data).
//
// All of it follows from the filesystem's own extents. Nothing is tracked while a guest writes.
package cbt
