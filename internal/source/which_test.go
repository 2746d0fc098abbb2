package source

import (
	"errors"
	"strings"
	"testing"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
)

// Several disks with one filesystem are paths to one, the disks of a btrfs, or copies, of which nobody knows which it is.
func TestWhichOf(t *testing.T) {
	const uuid = "0d6ad0a2-22ab-4b40-9a4a-3a2d8a2a2c11"
	xfs := func(path, same string) blockdev.Look {
		return blockdev.Look{Path: path, Same: same, Size: 1 << 30, Super: blockdev.Superblock{Kind: "xfs", UUID: uuid, Devices: 1}}
	}
	btrfs := func(path string, id, of, generation uint64) blockdev.Look {
		return blockdev.Look{Path: path, Size: 1 << 30, Super: blockdev.Superblock{Kind: "btrfs", UUID: uuid, Devices: of, DeviceID: id, Generation: generation}}
	}
	longer := xfs("/dev/c", "wwn")
	longer.Size++
	for _, c := range []struct {
		why   string
		found []blockdev.Look
		want  string // the disks that are mounted; "": it is refused
		says  string
	}{
		{"one", []blockdev.Look{xfs("/dev/a", "")}, "/dev/a", ""},
		{"two paths", []blockdev.Look{xfs("/dev/a", "wwn"), xfs("/dev/b", "wwn")}, "/dev/a", ""},
		{"a copy", []blockdev.Look{xfs("/dev/a", "wwn"), xfs("/dev/b", "other")}, "", "xfs_admin -U generate"},
		{"two that do not say what they are", []blockdev.Look{xfs("/dev/a", ""), xfs("/dev/b", "")}, "", "set up multipath"},
		{"two of one name and of two sizes", []blockdev.Look{xfs("/dev/a", "wwn"), longer}, "", "is a copy of the other"},
		{"two disks of a btrfs", []blockdev.Look{btrfs("/dev/b", 2, 2, 5), btrfs("/dev/a", 1, 2, 5)}, "/dev/a /dev/b", ""},
		{"one of two", []blockdev.Look{btrfs("/dev/b", 2, 2, 5)}, "", "disk 1 is missing"},
		{"one of three", []blockdev.Look{btrfs("/dev/b", 2, 3, 5)}, "", "disk 1, disk 3 are missing"},
		{"one of three, numbered otherwise", []blockdev.Look{btrfs("/dev/b", 7, 3, 5)}, "", "2 of them are missing"},
		{"one that was taken out before", []blockdev.Look{btrfs("/dev/a", 1, 2, 5), btrfs("/dev/b", 2, 1, 9)}, "", "disconnect what was taken out"},
		{"one that does not know yet of another", []blockdev.Look{btrfs("/dev/a", 1, 1, 5), btrfs("/dev/b", 2, 2, 9)}, "/dev/a /dev/b", ""},
		{"a copy of one of two", []blockdev.Look{btrfs("/dev/a", 1, 2, 5), btrfs("/dev/b", 2, 2, 5), btrfs("/dev/c", 2, 2, 5)}, "", "no btrfstune"},
	} {
		conf := Configuration{Source: Source{Device: "/dev/a", FilesystemUUID: uuid}}
		o, err := conf.whichOf(c.found, blockdev.Surroundings{})
		var disks []string
		for _, l := range o.disks {
			disks = append(disks, l.Path)
		}
		switch {
		case c.want != "" && (err != nil || strings.Join(disks, " ") != c.want):
			t.Errorf("%s: %q, %v", c.why, disks, err)
		case c.want == "" && (!errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q in it", c.why, err, c.says)
		}
	}
	two := onDisks{sb: blockdev.Superblock{Kind: "btrfs"}, disks: []blockdev.Look{btrfs("/dev/a", 1, 2, 5), btrfs("/dev/b", 2, 2, 5)}}
	if m := two.mountable("x=y"); m.Source != "/dev/a" || m.Data != "subvolid=5,x=y,device=/dev/b" || m.Kind != "btrfs" {
		t.Errorf("%+v", m)
	}
}

// A disk carries the SR's filesystem only if it is the host's, whole, and its mkfs has come to its end.
func TestCarries(t *testing.T) {
	c := Configuration{Source: Source{FilesystemUUID: "u"}}
	good := blockdev.Look{Super: blockdev.Superblock{UUID: "u"}}
	for why, edit := range map[string]func(*blockdev.Look){
		"a guest's":        func(l *blockdev.Look) { l.Owner = "a guest's" },
		"half of a mirror": func(l *blockdev.Look) { l.Member = "a part of m" },
		"unfinished":       func(l *blockdev.Look) { l.Super.Unfinished = true },
		"another":          func(l *blockdev.Look) { l.Super.UUID = "v" },
	} {
		bad := good
		edit(&bad)
		found := c.carriers(blockdev.Surroundings{Disks: []blockdev.Look{bad, good}})
		if c.carries(bad) || len(found) != 1 || found[0].Super != good.Super || found[0].Owner != "" {
			t.Errorf("%s: %+v", why, found)
		}
	}
	for l, want := range map[*blockdev.Look]string{
		{Path: "/dev/null", Owner: "volume v"}:                                  "is volume v",
		{Path: "/dev/null", Member: "a part of m"}:                              "is a part of m",
		{Path: "/dev/null"}:                                                     "neither XFS nor btrfs",
		{Path: "/dev/null", Super: blockdev.Superblock{Kind: "xfs", UUID: "u"}}: "carries the xfs u",
	} {
		if got := DescribeLook("/dev/null", *l, nil); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := DescribeLook("/dev/null/x", good, nil); !strings.Contains(got, "carries") && !strings.Contains(got, "neither") {
		t.Error(got)
	}
	if got := DescribeLook("/none", good, nil); got != "/none does not exist" {
		t.Error(got)
	}
}
