// Package program runs the few programs that a call cannot do without (mkfs, mount.nfs, blkid): found in fixed
// directories, without a shell, with a deadline and bounded output. os/exec would be linked into every fork of
// the plugin, for calls that are made once in the life of an SR.
package program
