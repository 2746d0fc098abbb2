// Package testdata holds the inputs of tests and of the demonstration.
package testdata

import "embed"

// Images holds pre-formatted filesystems: images/KIND.tar.gz with KIND.img in it,
// a sparse file. btrfs: 256 MiB, mkfs.btrfs -m dup. xfs: 300 MiB (what mkfs.xfs
// asks for at least), mkfs.xfs -m reflink=1,rmapbt=0,inobtcount=0,bigtime=0 -i nrext64=0.
//
//go:embed images
var Images embed.FS
