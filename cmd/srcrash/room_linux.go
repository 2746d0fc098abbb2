package main

import "golang.org/x/sys/unix"

// roomFor says whether so many bytes are free in a directory.
func roomFor(dir string, bytes uint64) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Bavail*uint64(st.Bsize) >= bytes
}
