package blockdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"os"
	"slices"
)

// XFS and ext4 have copies of their superblock where their next groups begin. They are what
// a repair starts from when the beginning of the disk is lost: a disk that has one is not
// blank. A few hundred places are looked at, in which mkfs puts the first of them; and a
// copy must say of itself that it is of the filesystem that begins where the disk does: what
// a guest had in its disk does not.

// xfsGroup are the sizes of XFS's groups, in bytes, and how many there are: 0 if the block
// is no superblock of XFS.
func xfsGroup(b []byte) (size int64, groups int64) {
	be := binary.BigEndian
	if len(b) < 128 || string(b[:4]) != "XFSB" {
		return 0, 0
	}
	block, blocks := be.Uint32(b[4:]), be.Uint32(b[84:])
	if bits.OnesCount32(block) != 1 || block < 512 || block > 64<<10 || blocks == 0 {
		return 0, 0
	}
	return int64(block) * int64(blocks), int64(be.Uint32(b[88:]))
}

// isSecond says whether a block is a copy of the superblock of a filesystem that begins at
// the beginning of the disk.
func isSecond(b []byte, offset int64) string {
	if size, groups := xfsGroup(b); size > 0 && offset > 0 && offset%size == 0 && offset/size < groups {
		return "xfs"
	}
	le := binary.LittleEndian
	if len(b) < 128 || le.Uint16(b[56:]) != 0xef53 || le.Uint32(b[24:]) > 6 {
		return ""
	}
	block, first := int64(1024)<<le.Uint32(b[24:]), int64(le.Uint32(b[20:]))
	group := int64(le.Uint16(b[90:]))
	if group > 0 && (int64(le.Uint32(b[32:]))*group+first)*block == offset {
		return "ext4 (or ext2, ext3)"
	}
	return ""
}

// secondPlaces are where copies are looked for on a disk of that size, in order: a disk that
// turns goes over them once.
func secondPlaces(size int64) []int64 {
	const mib = 1 << 20
	places := map[int64]bool{}
	// mkfs.xfs makes 4 groups of a disk, of an array up to 32, of one without moving parts
	// as many as there are processors; and of 1 TiB each of what is larger.
	for n := int64(2); n <= 64; n++ {
		places[(size/4096+n-1)/n*4096] = true
	}
	for _, block := range []int64{512, 1024, 2048, 64 << 10} {
		for _, n := range []int64{4, 8, 16, 32} {
			places[(size/block+n-1)/n*block] = true
		}
	}
	quarter := (size/4096 + 3) / 4 * 4096
	places[2*quarter], places[3*quarter] = true, true
	places[1<<40-4096] = true
	// One that has grown has the groups that it had.
	for at := int64(ClearEnd); at <= 64*mib; at += mib {
		places[at] = true
	}
	for at := int64(128 * mib); at < size; at *= 2 {
		places[at] = true
	}
	// ext4 has copies in groups 1 and powers of 3, 5 and 7; a group is as many blocks as a
	// block has bits.
	for _, group := range []int64{1, 3, 5, 7, 9, 25, 27, 49} {
		places[(8192*group+1)*1024], places[16384*group*2048], places[32768*group*4096] = true, true, true
	}
	maps.DeleteFunc(places, func(at int64, _ bool) bool { return at <= 0 || at > size-SuperSize })
	return slices.Sorted(maps.Keys(places))
}

// eachSecond calls found for each copy that there is at one of the places.
func eachSecond(disk io.ReaderAt, places []int64, found func(kind string, offset int64) error) error {
	block := make([]byte, 512)
	for _, at := range places {
		if _, err := disk.ReadAt(block, at); err != nil {
			return err
		}
		if kind := isSecond(block, at); kind != "" {
			if err := found(kind, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Second says of what there is a copy of a superblock on the disk; "" if none was found.
func (d *Disk) Second() (what string, err error) {
	enough := errors.New("found")
	err = eachSecond(d.f, secondPlaces(d.size), func(kind string, at int64) error {
		what = fmt.Sprintf("second superblocks of %s whose first is gone, as at byte %d", kind, at)
		return enough
	})
	if err == enough {
		err = nil
	}
	return what, err
}

// eraseSeconds makes a disk that is about to lose its beginning one that has no copies
// of it: those that its superblock tells of, and those that would be found.
func eraseSeconds(f *os.File, size int64) error {
	places := secondPlaces(size)
	first := make([]byte, 512)
	if _, err := f.ReadAt(first, 0); err != nil {
		return err
	}
	if group, groups := xfsGroup(first); group >= ClearEnd {
		for n := int64(1); n < min(groups, 1<<16) && n*group <= size-SuperSize; n++ {
			places = append(places, n*group)
		}
	}
	return eachSecond(f, places, func(_ string, at int64) error {
		_, err := f.WriteAt(make([]byte, len(first)), at)
		return err
	})
}
