package dirfs

import (
	"golang.org/x/sys/unix"

	"reflinksr/internal/reflink"
)

// adopt gives the file name in d the project of the directory dst, and says whether it
// had another: into a directory whose files inherit its project (XFS, for quotas) the
// kernel lets no file of another be renamed, with EXDEV (rename in fs/xfs/xfs_inode.c).
// Directories of an SR get projects at different times, and files come from elsewhere.
func (dst *Dir) adopt(d *Dir, name string) bool {
	project, inherited, err := reflink.ProjectOf(dst.f)
	if err != nil || !inherited {
		return false
	}
	f, err := d.Open(name, unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	had, _, err := reflink.ProjectOf(f)
	if err != nil || had == project {
		return false
	}
	return reflink.SetProject(f, project) == nil
}
