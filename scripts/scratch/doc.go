// Package scratch makes throw-away filesystems for scenarios and demonstrations:
// an image file, a loop device, a mount, and nothing left afterwards.
//
// Where mkfs is installed it is used. Where it is not, btrfs and XFS come from the
// tiny formatted images of package testdata, grown after mounting.
package scratch
