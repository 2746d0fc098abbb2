// Package sectors keeps which sectors of a disk were written, where its file tells only which blocks: for a mirror, whose disk is
// laid over another one later. A block of which only some sectors were written has each of them in a second file, in a
// block of its own, so that what the filesystem has allocated there is the map of them: data and map are one write, and no
// crash can part them.
//
// A block is in the disk's file if the first write to it was of all of it, else it is in the second file for good; which
// takes up to eight times its space there. Filesystems tell data by blocks of 4096 bytes; with larger ones nothing of this holds.
package sectors

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// Sector and block, in bytes.
const (
	Sector = 512
	Block  = 4096
	each   = Block / Sector
)

// Disk is a disk in two files. Its methods may be called by many goroutines at once.
type Disk struct{ whole, apart *os.File }

// New is a disk of these two files, both of which are empty, or were written to by nothing but a Disk.
func New(whole, apart *os.File) *Disk { return &Disk{whole, apart} }

// ErrCoarse is what Prepare answers where a filesystem does not tell of each block whether it has data.
var ErrCoarse = errors.New("the filesystem does not tell data from holes by blocks of 4096 bytes")

// Prepare makes an empty file the second one of a disk of so many bytes, the first of which has that inode number: durably. It looks whether
// the filesystem is one for that: some have larger blocks, some tell of none.
func Prepare(apart *os.File, size int64, ino uint64) error {
	if size > (math.MaxInt64-Block)/each {
		return fmt.Errorf("a disk of %d bytes: %w", size, unix.EFBIG)
	}
	const at = 16 * Block
	if _, err := apart.WriteAt(make([]byte, Block), at); err != nil {
		return err
	}
	data, err := apart.Seek(0, unix.SEEK_DATA)
	if err == nil && data == at {
		if err := apart.Truncate(at + 8*Block); err != nil {
			return err
		}
		data, err = apart.Seek(at, unix.SEEK_HOLE)
	}
	if err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err != nil || data != at+Block {
		return ErrCoarse
	}
	for _, length := range []int64{0, size * each} {
		if err := apart.Truncate(length); err != nil {
			return err
		}
	}
	if err := apart.Sync(); err != nil { // it is nobody's before it is as it must be
		return err
	}
	if _, err := apart.WriteAt(fmt.Appendf(nil, "%*d", Block, ino), size*each); err != nil {
		return err
	}
	return apart.Sync()
}

// Of is the inode number of the file whose second one this is: 0 if it is not prepared. It is in the last block, so that the whole of a disk
// is known to have other contents by now if its first file has been replaced.
func Of(apart *os.File) (ino uint64, err error) {
	end, err := apart.Seek(0, io.SeekEnd)
	if err != nil || end%Block != 0 || end == 0 {
		return 0, err
	}
	text := make([]byte, Block)
	if _, err := apart.ReadAt(text, end-Block); err != nil {
		return 0, err
	}
	ino, err = strconv.ParseUint(strings.TrimLeft(string(text), " "), 10, 64)
	if err != nil {
		return 0, nil
	}
	return ino, nil
}

// has says whether a stretch of a file has any data.
func has(f *os.File, from, to int64) (bool, error) {
	at, err := f.Seek(from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	return at < to, err
}

// WriteAt writes whole sectors.
func (d *Disk) WriteAt(p []byte, offset int64) (n int, err error) {
	if offset%Sector != 0 || len(p)%Sector != 0 {
		return 0, fmt.Errorf("%d bytes at %d are no whole sectors: %w", len(p), offset, unix.EINVAL)
	}
	for n < len(p) {
		at := offset + int64(n)
		length := min(len(p)-n, int(Block-at%Block))
		if whole := (len(p) - n) &^ (Block - 1); at%Block == 0 && whole > 0 {
			length = whole
			if apart, err := has(d.apart, at*each, (at+int64(length))*each); err != nil {
				return n, err
			} else if apart {
				length = Block // one by one: some are here and some there
			}
		}
		if err := d.write(p[n:n+length], at); err != nil {
			return n, err
		}
		n += length
	}
	return n, nil
}

// write writes some of one block, or several whole ones of which nothing is apart.
func (d *Disk) write(p []byte, at int64) error {
	block := at - at%Block
	apart := len(p) <= Block
	var err error
	if apart {
		apart, err = has(d.apart, block*each, (block+Block)*each)
	}
	if err == nil && !apart && len(p) < Block {
		var there bool
		there, err = has(d.whole, block, block+Block)
		apart = !there
	}
	if err != nil {
		return err
	}
	if !apart {
		_, err := d.whole.WriteAt(p, at)
		return err
	}
	spread := make([]byte, len(p)*each)
	for i := 0; i < len(p); i += Sector {
		copy(spread[i*each:], p[i:i+Sector])
	}
	_, err = d.apart.WriteAt(spread, at*each)
	return err
}

// ReadAt reads whole sectors; those that nobody has written are zeros.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	if offset%Sector != 0 || len(p)%Sector != 0 {
		return 0, fmt.Errorf("%d bytes at %d are no whole sectors: %w", len(p), offset, unix.EINVAL)
	}
	if n, err := d.whole.ReadAt(p, offset); err != nil {
		return n, err
	}
	return len(p), d.apartIn(offset, offset+int64(len(p)), func(sector []byte, at int64) error {
		copy(p[at-offset:], sector)
		return nil
	})
}

// Sync makes durable what was written.
func (d *Disk) Sync() error {
	return errors.Join(sys.Do(func() error { return unix.Fdatasync(int(d.apart.Fd())) }), sys.Do(func() error { return unix.Fdatasync(int(d.whole.Fd())) }))
}

// Lay writes the sectors that are apart into a file that has the blocks of the disk's own file over those of its parent.
func (d *Disk) Lay(into *os.File, size int64) error {
	return d.apartIn(0, size, func(sector []byte, at int64) error {
		_, err := into.WriteAt(sector, at)
		return err
	})
}

func (d *Disk) apartIn(from, to int64, do func(sector []byte, at int64) error) error {
	sector := make([]byte, Sector)
	for at := from * each; at < to*each; {
		start, err := d.apart.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := d.apart.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at = start - start%Block; at < min(end, to*each); at += Block {
			if _, err := d.apart.ReadAt(sector, at); err != nil {
				return err
			}
			if err := do(sector, at/each); err != nil {
				return err
			}
		}
	}
	return nil
}
