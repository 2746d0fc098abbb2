// Package source is where the directory of an SR comes from: a path, a disk or an NFS server's export, as its
// configuration says. It finds the disk among those of the host, makes and mounts its filesystem, and gives it back.
package source
