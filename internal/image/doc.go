// Package image reads and writes disks in the formats of others: raw, qcow2, VHD and VMDK.
//
// What it reads is hostile: whoever made an image chose every byte of it. Each number is held against the file before
// it is used, tables are read a page at a time and never as a whole, chains of images are of limited length and do not run in
// circles, and of all that less than 64 MiB of memory is taken whatever an image says. What cannot be right is refused
// (fault.ErrInvalid) in a sentence that names the file, the byte and the reason.
//
// An Image is what a guest would see: its layers from the top to the base, put together. A Sink takes a disk from its
// beginning to its end; NewQcow2 and NewVHD make sinks of empty files.
package image
