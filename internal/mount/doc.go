// Package mount mounts and unmounts filesystems of SRs: for everybody at the place of an SR, or for a look in a mount
// namespace that nobody else sees.
package mount
