package blockdev

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
)

// Devices are one disk, or a part of it, by the bytes that they are of; a part of several may be any of them.
func TestRelation(t *testing.T) {
	whole := stretch{"disk a", 0, 1000}
	for _, c := range []struct {
		why          string
		mine, theirs []stretch
		shares       string
		part         bool
	}{
		{"another disk", []stretch{whole}, []stretch{{"disk b", 0, 1000}}, "", false},
		{"another path", []stretch{whole}, []stretch{whole}, "is the same disk as", false},
		{"a partition", []stretch{whole}, []stretch{{"disk a", 100, 200}}, "contains", true},
		{"the disk of a partition", []stretch{{"disk a", 100, 200}}, []stretch{whole}, "is a part of", false},
		{"the next partition", []stretch{{"disk a", 100, 200}}, []stretch{{"disk a", 200, 300}}, "", false},
		{"one that begins before its end", []stretch{{"disk a", 100, 200}}, []stretch{{"disk a", 199, 300}}, "shares bytes with", true},
		{"one that is made of several", []stretch{whole}, []stretch{{"disk b", 0, 9}, {"disk a", 5, 9}}, "contains", true},
		{"one of several that it is made of", []stretch{{"disk b", 0, 9}, {"disk a", 5, 9}}, []stretch{whole}, "is a part of", false},
		{"nothing", nil, []stretch{whole}, "", false},
	} {
		if shares, part := relation(c.mine, c.theirs); shares != c.shares || part != c.part {
			t.Errorf("%s: %q, %v", c.why, shares, part)
		}
	}
	for _, c := range []struct{ offset, size, from, to int64 }{{0, 1000, 0, 1000}, {100, 50, 100, 150}, {900, 500, 900, 1000}, {2000, 5, 1000, 1000}} {
		if got := cut([]stretch{whole}, c.offset, c.size); len(got) != 1 || got[0] != (stretch{"disk a", c.from, c.to}) {
			t.Errorf("%d+%d: %+v", c.offset, c.size, got)
		}
	}
	if two := []stretch{whole, {"disk b", 0, 9}}; !slices.Equal(cut(two, 5, 1), two) {
		t.Error("a part of several is not any of them")
	}
}

// What disks say of themselves, and of which part of them a device is.
func TestIdentities(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"wwn", "wwn", true}, {"wwn", "other", false}, {"wwn from 8+8", "wwn", true}, {"wwn from 8+8", "wwn from 16+8", false}, {"wwn from 8+8", "wwn from 15+8", true},
		{"wwn from 8+0", "wwn from 9999+1", true}, {"x from y", "x from y", true}, {"x from y", "x", false},
		{"file 1:2 from 0+0", "file 1:2 from 5+5", true}, {"file 1:2 from 0+0", "file 1:3 from 0+0", false}, {"wwn from 18446744073709551615+9", "wwn from 1+1", false},
	} {
		if haveInCommon(c.a, c.b) != c.want || haveInCommon(c.b, c.a) != c.want {
			t.Errorf("%q and %q: not %v", c.a, c.b, c.want)
		}
	}
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put("sda/dev", "8:0\n")
	put("sda/device/wwid", "naa.5000  \n")
	put("sda/sda1/dev", "8:1\n")
	put("sda/sda1/partition", "1\n")
	put("sda/sda1/start", "2048\n")
	put("sda/sda1/size", "100\n")
	put("dm-0/dm/uuid", "mpath-36\n")
	put("dm-0/slaves/sda/dev", "8:0\n")
	put("dm-0/slaves/sdb/dev", "8:16\n")
	put("vda/size", "100\n")
	put("odd/slaves/x/dev", "rubbish")
	for name, want := range map[string]string{"sda": "naa.5000", "sda/sda1": "naa.5000 from 2048+100", "dm-0": "mpath-36", "vda": ""} {
		if got, err := identityOf(filepath.Join(dir, name)); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := identityOf(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for name, want := range map[string][]uint64{"sda": nil, "sda/sda1": {unix.Mkdev(8, 0)}, "dm-0": {unix.Mkdev(8, 0), unix.Mkdev(8, 16)}} {
		if got, err := madeOf(filepath.Join(dir, name)); !slices.Equal(got, want) || err != nil {
			t.Errorf("%s is made of %v, %v", name, got, err)
		}
	}
	if got, err := madeOf(filepath.Join(dir, "odd")); err == nil {
		t.Errorf("it is made of %v", got)
	}
	if !isPartOf(filepath.Join(dir, "sda/sda1"), unix.Mkdev(8, 0)) || isPartOf(filepath.Join(dir, "sda/sda1"), unix.Mkdev(8, 16)) || isPartOf(filepath.Join(dir, "sda"), unix.Mkdev(8, 0)) {
		t.Error("a partition is a part of its disk, and of nothing else")
	}
	if got := sectors(filepath.Join(dir, "sda/sda1/start")); got != 1<<20 {
		t.Errorf("%d bytes", got)
	}
}

// Whose a device is follows from its name where no guest can choose that.
func TestOwnersByName(t *testing.T) {
	dir := t.TempDir()
	mapped := func(name string) string {
		sysfs := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Join(sysfs, "dm"), 0o700), os.WriteFile(filepath.Join(sysfs, "dm/name"), []byte(name+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		return sysfs
	}
	o := &ownership{known: map[uint64]string{}}
	for _, c := range []struct{ name, sysfs, says string }{
		{"tda", dir, "tapdisk"}, {"tdabcd", dir, ""}, {"drbd1000", dir, "DRBD"}, {"sda", dir, ""}, {"vda", dir, ""}, {"nvme0n1", dir, ""}, {"loop9", dir, ""},
		{"dm-1", mapped("VG_XenStorage--x-MGT"), ""}, {"dm-2", mapped("VG_XenStorage-x"), "of another SR"}, {"dm-3", mapped("linstor-xcp--volume--1"), "of another SR"}, {"dm-4", mapped("root"), ""},
	} {
		owner, err := o.byName(c.name, c.sysfs)
		if err != nil || (owner == "") != (c.says == "") && c.name != "dm-1" || !strings.Contains(owner, c.says) {
			t.Errorf("%s: %q, %v", c.name, owner, err)
		}
	}
}

// An error of a process that looked is what it was: who asks tells a disk that cannot be read from one that is not there.
func TestErrorsOfLooks(t *testing.T) {
	for _, err := range []error{
		&os.PathError{Op: "open", Path: "/dev/x", Err: unix.ENOENT}, &os.PathError{Op: "read", Path: "/dev/x", Err: unix.EIO},
		fault.Errorf(fault.ErrInvalid, "device", "it is none"), fault.Errorf(fault.ErrSRInUse, "x", "it is somebody's"),
		unknownOwner(unix.Mkdev(8, 0), unix.EACCES), errors.New("anything"),
	} {
		again := answerOf(Look{}, err).err()
		if again == nil || again.Error() != err.Error() || fault.Classify(again) != fault.Classify(err) || fault.IsIO(again) != fault.IsIO(err) {
			t.Errorf("%v became %v", err, again)
		}
		for _, target := range []error{os.ErrNotExist, ErrOwner, unix.EACCES, fault.ErrInvalid} {
			if errors.Is(again, target) != errors.Is(err, target) {
				t.Errorf("%v: %v", again, target)
			}
		}
	}
	if err := answerOf(Look{}, nil).err(); err != nil {
		t.Error(err)
	}
	for a, want := range map[*Surroundings]string{
		{}: "", {Mute: []string{"/dev/a"}}: "; /dev/a does not answer, and may be it", {Mute: []string{"/dev/a", "/dev/b"}}: "; /dev/a, /dev/b do not answer, and one of them may be it",
		{Mute: []string{"/dev/a"}, ill: []string{"/dev/c"}}: "; /dev/a does not answer, and may be it; /dev/c cannot be read, and may be it",
	} {
		if got := a.Silence(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNamesOfDevices(t *testing.T) {
	for text, want := range map[string]uint64{"8:0\n": unix.Mkdev(8, 0), "259:65537": unix.Mkdev(259, 65537)} {
		if got, err := ParseNumber(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "8", "x:y", "-1:0", "8:99999999999"} {
		if got, err := ParseNumber(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
	for path, want := range map[string]string{"/dev/sda": "sda", "/dev/cciss/c0d0": "cciss!c0d0", "sda": "sda"} {
		if got := SysName(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	for name, want := range map[string]bool{"sr0": true, "fd1": true, "srx": false, "sda": false, "fd": false, "0": false} {
		if discDrive(name) != want {
			t.Errorf("%s: not %v", name, want)
		}
	}
	info := filepath.Join(t.TempDir(), "info")
	for text, want := range map[string]bool{"pos:\t0\nflags:\t0100002\nmnt_id:\t25\n": true, "flags:\t0100000\nmnt_id:\t25\n": false, "flags:\t0100001\nmnt_id:\t25": true, "flags:\t012000002\nmnt_id:\t25\n": false, "mnt_id: 25": false} {
		if err := os.WriteFile(info, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if mount, writable := openedHow(info); mount != "25" || writable != want {
			t.Errorf("%q: %q, %v", text, mount, writable)
		}
	}
}

// Clearing a disk leaves zeros at its ends, and of its beginning what is kept goes on its own.
func TestZeroEnds(t *testing.T) {
	const size = 80 << 20
	for _, c := range []struct{ keep, end int64 }{{0, 0}, {BtrfsSuper, BtrfsSuper + SuperSize}, {0, SuperSize}} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		places := []int64{0, 512, BtrfsSuper, ClearEnd - 1, ClearEnd, BtrfsMirrors[0], BtrfsMirrors[0] + SuperSize, size - ClearEnd - 1, size - ClearEnd, size - 1}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, at := range places {
			if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := zeroEnds(f, size, c.keep, c.end); err != nil {
			t.Fatal(err)
		}
		for _, at := range places {
			kept := at >= ClearEnd && at < size-ClearEnd && (at < BtrfsMirrors[0] || at >= BtrfsMirrors[0]+SuperSize) || at >= c.keep && at < c.end
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at); err != nil || (b[0] != 0) != kept {
				t.Errorf("keeping %d to %d: byte %d is %#x, %v", c.keep, c.end, at, b[0], err)
			}
		}
	}
	// A disk that is shorter than what is cleared of it.
	f, err := os.Create(filepath.Join(t.TempDir(), "small"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(bytes.Repeat([]byte{0xff}, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := zeroEnds(f, 1<<20, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); err != nil || !bytes.Equal(data, make([]byte, 1<<20)) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
