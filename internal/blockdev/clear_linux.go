package blockdev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// Clear overwrites what tells what a disk carries: superblocks, partition tables and
// the labels of volume managers; of a disk that is still the same once it is claimed.
func (d *Disk) Clear(same func() error) error {
	f, err := d.Claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.FreeByOverlaps(); err != nil {
		return err
	}
	if err := same(); err != nil {
		return err
	}
	// Who has a partition open, if not for himself alone, would be asked too late.
	if err := d.rereadPartitions(f); err != nil {
		return err
	}
	if err := zeroEnds(f, d.size, 0, 0); err != nil {
		return err
	}
	return errors.Join(d.rereadPartitions(f), f.Close())
}

// zeroEnds overwrites the ends of a disk, and the copies of its superblock, the
// beginning last; but not what is from keep on and before end.
func zeroEnds(f *os.File, size, keep, end int64) error {
	zeros := make([]byte, ClearEnd)
	zero := func(from, to int64) error {
		if from >= to {
			return nil
		}
		_, err := f.WriteAt(zeros[:to-from], from)
		return err
	}
	if err := eraseSeconds(f, size); err != nil {
		return err
	}
	begin := min(ClearEnd, size)
	if err := zero(max(size-ClearEnd, begin), size); err != nil {
		return err
	}
	for _, offset := range BtrfsMirrors {
		if offset+SuperSize <= size {
			if err := zero(offset, offset+SuperSize); err != nil {
				return err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := errors.Join(zero(end, begin), zero(0, keep)); err != nil {
		return err
	}
	return f.Sync()
}

// rereadPartitions has the kernel know no other partitions than there are. A partition has
// none, and says EINVAL.
func (d *Disk) rereadPartitions(f *os.File) error {
	err := sys.Insist(unix.EBUSY, func() error { return unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0) })
	switch err {
	case nil, unix.EINVAL:
		return nil
	case unix.EBUSY:
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, d.path, "%s is in use: something has one of its partitions open (%s)", d.path, strings.Join(d.Partitions(), ", ")),
			"end that, or choose another device")
	}
	return fmt.Errorf("%s: reading its partition table: %w", d.path, err)
}

// Unfinish makes the filesystem with that UUID, which has nothing in it, an unfinished one:
// nobody attaches that, and SR.create may take it.
func (d *Disk) Unfinish(uuid string) error { return d.end(uuid, false) }

// Unsign makes a disk that carries a filesystem with that UUID, and nothing else, blank
// again. The filesystem is an unfinished one first, and its superblock goes last: whatever
// happens in between, it can be repeated.
func (d *Disk) Unsign(uuid string) error { return d.end(uuid, true) }

func (d *Disk) end(uuid string, all bool) error {
	f, err := d.Claim(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.FreeByOverlaps(); err != nil {
		return err
	}
	sb, err := readSuperblock(f)
	if err != nil {
		return err
	}
	if sb.UUID != uuid {
		return fault.Errorf(fault.ErrSRInUse, d.path, "%s does not carry the filesystem %s any more, and stays as it is", d.path, uuid)
	}
	if offset, value := sb.unfinishedAt(); !sb.Unfinished {
		if _, err := f.WriteAt([]byte{value}, offset); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if !all {
		return f.Close()
	}
	offset := int64(0)
	if sb.Kind == "btrfs" {
		offset = BtrfsSuper
	}
	if err := zeroEnds(f, d.size, offset, offset+SuperSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, SuperSize), offset); err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
