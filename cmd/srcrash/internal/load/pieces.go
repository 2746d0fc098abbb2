package load

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/snapshot"
)

// livesApart says how many stripes of a disk that is in many pieces one is that is written to. The others
// keep it in many pieces, whatever is written.
const livesApart = 2

// fragmentedBlocks are how many a disk has of which so many extents are to be had in what is not written to.
func fragmentedBlocks(extents int) int {
	const perStripe = largest / 2
	stripes := max((extents+perStripe-1)/perStripe*livesApart, 128) // 32 writers have two each
	const rounded = 2 << 20 / blockSize / largest                   // in stripes: what the plugin makes of it
	return (stripes + rounded - 1) / rounded * rounded * largest
}

// feltLeast is from when on a guest feels what FICLONE takes, so that it is not used while the disk is in use.
const feltLeast = 20 * time.Millisecond

// preCopied says whether a disk with so many extents is cloned while it is in use.
func (b *bed) preCopied(extents int) bool { return snapshot.Stall(b.setup.FS, extents) > feltLeast }

// fragment writes every second block of the disk, which nobody has yet, and makes sure of its extents.
func (f *field) fragment(least int) error {
	file, err := os.OpenFile(f.data(f.disk), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := make([]byte, blockSize)
	by := len(f.writers.wrote) - 2
	for block := 0; block < f.blocks; block += 2 {
		if err := f.writers.write(file, buffer, write{block: block, blocks: 1}, by); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	// What is in the page cache is in the way of a device that bypasses it.
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return &os.PathError{Op: "fadvise", Path: file.Name(), Err: err}
	}
	n, err := extents(file.Name())
	if err == nil && n < least {
		err = fmt.Errorf("%s: a disk of which every second block was written has %d extents, want %d", f.setup, n, least)
	}
	return err
}
