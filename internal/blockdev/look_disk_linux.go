package blockdev

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lookAtDisk looks at a block device, and not into it if it is a guest's.
func lookAtDisk(path string) (l Look, err error) {
	dev, err := Number(path)
	if err != nil {
		return l, err
	}
	l.Path, l.Dev = path, dev
	if l.Owner, err = OwnerOf(dev, true); err != nil || l.Owner != "" {
		return l, err
	}
	d, err := Open(path)
	if err != nil {
		return l, err
	}
	defer d.Close()
	l.Path, l.Dev, l.Size = d.path, d.dev, d.size
	d.DropCache()
	if l.Blocks, err = ReadSuperblocks(d.f); err != nil {
		return l, fmt.Errorf("reading %s: %w", d.path, err)
	}
	if l.Member, err = d.member(); err != nil {
		return l, err
	}
	if l.Same, err = d.identity(); err != nil {
		return l, err
	}
	if l.Super = l.Blocks.Parse(); l.Super == (Superblock{}) {
		l.Blank = d.looksBlank()
	}
	return l, nil
}

// DropCache has the kernel read superblocks anew, not tell what it remembers: the disk may have
// been written to by another path, or by a filesystem, since.
func (d *Disk) DropCache() {
	for _, offset := range append([]int64{0, BtrfsSuper}, BtrfsMirrors...) {
		unix.Fadvise(int(d.f.Fd()), offset, SuperSize, unix.FADV_DONTNEED)
	}
}
