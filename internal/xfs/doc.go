// Package xfs knows XFS on the disk: which features a superblock has and which Linux knows them, and how an empty
// filesystem is made without mkfs.xfs. It writes nothing itself.
package xfs

//go:generate go test -run ^TestTemplates$ -update .
