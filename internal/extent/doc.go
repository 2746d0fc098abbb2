// Package extent asks the kernel where the blocks of a file are and who shares them: FIEMAP, and btrfs's tree
// search. NFS answers neither, which is fault.ErrNoExtents. Offsets and lengths are in bytes.
package extent
