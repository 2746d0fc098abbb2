package blockdev

import (
	"strconv"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/filesystem"
	"reflinksr/internal/mountinfo"
)

// lookAtMount looks at what is mounted at a path: at nothing if it cannot share blocks.
func lookAtMount(path string) (l Look, err error) {
	there, err := mountinfo.At(path)
	if err != nil || len(there) == 0 {
		return l, err
	}
	// btrfs has no number of its own here.
	if dev, err := Number(there[len(there)-1].Source); err == nil {
		if l.Owner, err = OwnerOf(dev, true); err != nil || l.Owner != "" {
			return l, err
		}
	}
	root, err := dirfs.OpenDir(path)
	if err != nil {
		return l, err
	}
	defer root.Close()
	info := map[string]string{}
	if err := DescribeSpace(root, info); err != nil || !filesystem.MayShare(root) {
		return l, err
	}
	l.Info = info
	return l, nil
}

// DescribeSpace adds the size and the free space of a filesystem, in bytes, to what a probe tells of it.
func DescribeSpace(d *dirfs.Dir, info map[string]string) error {
	fs, err := filesystem.Of(d)
	if err != nil {
		return err
	}
	total, free, err := filesystem.Space(d)
	info["filesystem"] = fs.Type
	info["filesystem_uuid"] = fs.UUID
	info["total_space"] = strconv.FormatInt(total, 10)
	info["free_space"] = strconv.FormatInt(free, 10)
	return err
}
