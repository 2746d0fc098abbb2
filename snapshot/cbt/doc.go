// Package cbt is the blocks that disks share: which of two disks' blocks differ follows from them, and which of a disk's
// nobody needs any more. That is what a backup client asks for, what composing two disks needs, and what lets the data of
// a snapshot go that is only kept to be compared with.
//
// All of it follows from the filesystem's own extents. Nothing is tracked while a guest writes.
package cbt
