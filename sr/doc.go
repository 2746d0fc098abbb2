// Package sr is the life of a storage repository, which is a directory: made,
// attached, opened and locked for a call, recovered after a crash, and ended.
//
// It is a directory on a filesystem that can share blocks (FICLONE), holding
//
//	sr.json            marker and metadata
//	<uuid>             a volume's data (package volume)
//	<uuid>.inf         a volume's record (package volume)
//	.reflinksr/        lock, locks/, staging/, leases/, cbt/; what several hosts can mount: hosts/, sequence
//
// Where the directory is on a disk or an export of its own, package internal/source makes and mounts that filesystem:
// this package says when.
//
// Promises:
//
//   - Old state or new state, never a third: every change has one commit point,
//     and a crash or power cut between any two system calls leaves the one or the
//     other after at most the next Attach. What was answered stays.
//   - Nothing is written to a directory that is not the SR it is taken for: the
//     marker, the SR's UUID and the filesystem's own UUID are compared by every call.
//   - Names given to the kernel are single path components that this program made
//     itself (a parsed key and a fixed ending), opened relative to a directory's
//     file descriptor and without following links.
//
// The package knows files and locks. It has never heard of requests, exit codes
// or the devices of volumes; do not use it to look inside a volume's data.
package sr
