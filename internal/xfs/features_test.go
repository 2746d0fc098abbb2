package xfs

import (
	"encoding/binary"
	"testing"
)

func superblock(version uint16, f Features) []byte {
	b := make([]byte, 512)
	copy(b, "XFSB")
	binary.BigEndian.PutUint16(b[versionAt:], 0xb4a0|version)
	for i, word := range []uint32{f.Compat, f.ROCompat, f.Incompat, f.LogIncompat} {
		binary.BigEndian.PutUint32(b[featuresAt+4*i:], word)
	}
	return b
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		f            Features
		names, since string
	}{
		{Features{}, "", ""},
		{Known419, "", ""},
		{Features{ROCompat: 0xd, Incompat: 0xb}, "inobtcount, bigtime", "5.10"},
		{Features{ROCompat: 0xd, Incompat: 0x7fb}, "inobtcount, bigtime, needsrepair, nrext64, exchange, parent, metadir, zoned, zone gaps", "6.15"},
		{Features{Incompat: 1 << 30}, "incompat 0x40000000", ""},
		{Features{Compat: 1, ROCompat: 1 << 31, Incompat: 1<<3 | 1<<11}, "bigtime, compat 0x1, ro_compat 0x80000000, incompat 0x800", ""},
	} {
		f := ParseFeatures(superblock(5, c.f))
		list := f.After419()
		if f != c.f || Names(list) != c.names || len(list) > 0 && FirstLinux(list) != c.since {
			t.Errorf("%+v was read as %+v: %q since %q", c.f, f, Names(list), FirstLinux(list))
		}
	}
	for why, sb := range map[string][]byte{"version 4": superblock(4, Features{Incompat: 8}), "half": superblock(5, Features{Incompat: 8})[:220], "nothing": nil, "zeros": make([]byte, 512)} {
		if f := ParseFeatures(sb); f != (Features{}) {
			t.Errorf("%s: %+v", why, f)
		}
	}
}

// What the bits of a superblock are called is what the kernel tells of a mounted filesystem.
func TestGeometry(t *testing.T) {
	if got := Names(OfGeometry(1<<20 | 1<<21 | 1<<22 | 1<<23 | 1<<24 | 1<<25 | 1<<26 | 1<<27)); got != "inobtcount, bigtime, nrext64, exchange, parent, metadir, zoned" {
		t.Error(got)
	}
	if got := OfGeometry(1<<21 - 1); got != nil {
		t.Errorf("4.19 knows %s", Names(got))
	}
}

func TestUnknownTo(t *testing.T) {
	all := Features{ROCompat: 8, Incompat: 8 | 1<<5 | 1<<20}.After419()
	for _, c := range []struct {
		major, minor int
		want         string
	}{
		{4, 19, "inobtcount, bigtime, nrext64, incompat 0x100000"},
		{5, 10, "nrext64, incompat 0x100000"},
		{6, 0, "incompat 0x100000"},
		{0, 0, "inobtcount, bigtime, nrext64, incompat 0x100000"},
	} {
		if got := Names(UnknownTo(all, c.major, c.minor)); got != c.want {
			t.Errorf("Linux %d.%d: %s", c.major, c.minor, got)
		}
	}
	if got := Names(UnknownTo(all[:2], 6, 1)); got != "inobtcount, bigtime" {
		t.Errorf("a kernel that was made without them: %s", got)
	}
}
