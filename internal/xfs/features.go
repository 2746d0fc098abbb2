package xfs

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Features are the bits of a superblock that say what else than the oldest XFS of version 5 a filesystem is made
// of. A kernel mounts none whose bits it does not all know; one that does not know a bit of ROCompat, only to be read.
type Features struct {
	Compat, ROCompat, Incompat, LogIncompat uint32
}

// Feature is one that Linux 4.19, the oldest that hosts have, does not know.
type Feature struct {
	Name         string // as mkfs.xfs and xfs_info call it
	Major, Minor int    // of the first Linux that knows it; 0 if nobody here can tell
}

// Known419 are the features that Linux 4.19 knows (xfs_format.h): finobt, rmapbt and reflink; ftype, spinodes and meta_uuid.
var Known419 = Features{ROCompat: 0x1 | 0x2 | 0x4, Incompat: 0x1 | 0x2 | 0x4}

// newer are those that came after it, each with its bit in the superblock and in what XFS_IOC_FSGEOMETRY tells.
var newer = []struct {
	Feature
	bit      Features
	geometry uint32
}{
	{Feature{"inobtcount", 5, 10}, Features{ROCompat: 1 << 3}, 1 << 22},
	{Feature{"bigtime", 5, 10}, Features{Incompat: 1 << 3}, 1 << 21},
	{Feature{"needsrepair", 5, 11}, Features{Incompat: 1 << 4}, 0},
	{Feature{"nrext64", 5, 19}, Features{Incompat: 1 << 5}, 1 << 23},
	{Feature{"exchange", 6, 10}, Features{Incompat: 1 << 6}, 1 << 24},
	{Feature{"parent", 6, 10}, Features{Incompat: 1 << 7}, 1 << 25},
	{Feature{"metadir", 6, 13}, Features{Incompat: 1 << 8}, 1 << 26},
	{Feature{"zoned", 6, 15}, Features{Incompat: 1 << 9}, 1 << 27},
	{Feature{"zone gaps", 6, 15}, Features{Incompat: 1 << 10}, 0},
}

// Where they are in struct xfs_dsb, which is big-endian.
const (
	versionAt  = 100
	featuresAt = 208
)

// ParseFeatures reads the features out of a superblock. One of a version before 5 has none.
func ParseFeatures(sb []byte) (f Features) {
	be := binary.BigEndian
	if len(sb) < featuresAt+16 || string(sb[:4]) != "XFSB" || be.Uint16(sb[versionAt:])&0xf != 5 {
		return f
	}
	for i, word := range []*uint32{&f.Compat, &f.ROCompat, &f.Incompat, &f.LogIncompat} {
		*word = be.Uint32(sb[featuresAt+4*i:])
	}
	return f
}

// After419 lists the features that Linux 4.19 does not know, those without a name by their bits.
func (f Features) After419() (list []Feature) {
	for _, n := range newer {
		if f.ROCompat&n.bit.ROCompat != 0 || f.Incompat&n.bit.Incompat != 0 {
			list = append(list, n.Feature)
			f.ROCompat &^= n.bit.ROCompat
			f.Incompat &^= n.bit.Incompat
		}
	}
	for _, rest := range []struct {
		name string
		bits uint32
	}{{"compat", f.Compat &^ Known419.Compat}, {"ro_compat", f.ROCompat &^ Known419.ROCompat}, {"incompat", f.Incompat &^ Known419.Incompat}} {
		if rest.bits != 0 {
			list = append(list, Feature{Name: fmt.Sprintf("%s %#x", rest.name, rest.bits)})
		}
	}
	return list
}

// OfGeometry lists the features that Linux 4.19 does not know of what XFS_IOC_FSGEOMETRY tells of a mounted filesystem.
func OfGeometry(flags uint32) (list []Feature) {
	for _, n := range newer {
		if flags&n.geometry != 0 {
			list = append(list, n.Feature)
		}
	}
	return list
}

// UnknownTo keeps those that a kernel of that version does not know; all of them if by its version it
// should know them all.
func UnknownTo(list []Feature, major, minor int) []Feature {
	unknown := slices.DeleteFunc(slices.Clone(list), func(f Feature) bool {
		return f.Major != 0 && (major > f.Major || major == f.Major && minor >= f.Minor)
	})
	if len(unknown) == 0 {
		return list
	}
	return unknown
}

// Names lists features by name.
func Names(list []Feature) string {
	var names []string
	for _, f := range list {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// FirstLinux is the first Linux that knows all of them, as 5.10; "" if nobody here can tell.
func FirstLinux(list []Feature) string {
	var last Feature
	for _, f := range list {
		if f.Major == 0 {
			return ""
		}
		if f.Major > last.Major || f.Major == last.Major && f.Minor > last.Minor {
			last = f
		}
	}
	return fmt.Sprintf("%d.%d", last.Major, last.Minor)
}
