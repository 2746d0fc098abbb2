// Package reflink gives a file the blocks of another (FICLONE; where both hold the same bytes, FIDEDUPERANGE) and the attributes without which the kernel
// refuses that: nodatacow and checksums on btrfs, the extent size hint and the project on XFS.
//
// A clone is atomic against concurrent writes and costs time by extents, not by bytes. Nothing here copies.
package reflink
