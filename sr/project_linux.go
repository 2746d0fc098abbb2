package sr

import "golang.org/x/sys/unix"

// adopt gives the file name in d the project of the directory dst, and says whether it
// had another: into a directory whose files inherit its project (XFS, for quotas) the
// kernel lets no file of another be renamed, with EXDEV (rename in fs/xfs/xfs_inode.c).
// Directories of an SR get projects at different times, and files come from elsewhere.
func (dst *Dir) adopt(d *Dir, name string) bool {
	of, err := readFsxattr(dst.f)
	if err != nil || of.xflags&fsXflagProjinherit == 0 {
		return false
	}
	f, err := d.Open(name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	x, err := readFsxattr(f)
	if err != nil || x.projid == of.projid {
		return false
	}
	x.projid = of.projid
	return writeFsxattr(f, &x) == nil
}
