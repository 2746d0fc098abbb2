// Package dirfs is files below an open directory: opened by single names without following links, replaced durably,
// locked with flock(2) and a deadline. Nothing outside the directory is ever opened, whoever swaps its entries
// meanwhile. On NFS it asks the server again where this host remembers what is no longer so (nfs_linux.go).
package dirfs
