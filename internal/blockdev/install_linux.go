package blockdev

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
	"reflinksr/internal/xfs"
)

// discardStep is how much is discarded at once, in bytes: a process in the middle of that cannot be killed.
const discardStep = 2 << 30

// Install makes the disk, which has been cleared, carry that filesystem. It is an unfinished one first and its
// superblock comes last: whatever happens in between, it can be repeated. What else is on the disk is
// discarded, where the disk can do that, as mkfs does.
func (d *Disk) Install(i *xfs.Image) error {
	f, err := d.ClaimAny(unix.O_RDWR) // whose it is Clear has just asked
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); at < d.size; at += discardStep {
		if onRange(f, unix.BLKDISCARD, at, min(discardStep, d.size-at)) != nil {
			break // it keeps what nobody will ask for
		}
	}
	if err := writeBlocks(f, i.Unfinished()); err != nil {
		return err
	}
	if err := onRange(f, unix.BLKZEROOUT, i.Log.Offset, i.Log.Length); err != nil {
		return fmt.Errorf("%s: writing zeros from byte %d on: %w", d.path, i.Log.Offset, err)
	}
	if err := writeBlocks(f, i.Blocks[1:]...); err != nil {
		return err
	}
	return errors.Join(writeBlocks(f, i.Blocks[0]), f.Close())
}

// writeBlocks writes blocks so that they last, those that follow one another at once.
func writeBlocks(f *os.File, blocks ...xfs.Block) error {
	for i := 0; i < len(blocks); {
		run := xfs.Block{Offset: blocks[i].Offset}
		for ; i < len(blocks) && blocks[i].Offset == run.Offset+int64(len(run.Data)); i++ {
			run.Data = append(run.Data, blocks[i].Data...)
		}
		if _, err := f.WriteAt(run.Data, run.Offset); err != nil {
			return err
		}
	}
	return f.Sync()
}

// onRange makes one of the calls that take a range of a block device.
func onRange(f *os.File, call uintptr, offset, length int64) error {
	args := [2]int64{offset, length}
	return sys.Ioctl(f, call, unsafe.Pointer(&args))
}
