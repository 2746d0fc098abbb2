package sys

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var kinds = map[int64]string{ // linux/magic.h
	unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.XFS_SUPER_MAGIC:   "xfs",
	unix.EXT4_SUPER_MAGIC:  "ext4",
	unix.TMPFS_MAGIC:       "tmpfs",
	unix.NFS_SUPER_MAGIC:   "nfs",
	unix.OCFS2_SUPER_MAGIC: "ocfs2",
}

// KindOf answers the kind of the filesystem that holds an open file: "xfs", "btrfs" …, or its number.
func KindOf(f *os.File) (string, error) {
	st, err := Fstatfs(f)
	if err != nil {
		return "", err
	}
	return KindOfMagic(st), nil
}

// KindOfMagic is KindOf of what statfs(2) has told.
func KindOfMagic(st *unix.Statfs_t) string {
	if k, ok := kinds[int64(st.Type)]; ok {
		return k
	}
	return fmt.Sprintf("filesystem %#x", st.Type)
}
