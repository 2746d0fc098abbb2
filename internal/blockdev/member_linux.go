package blockdev

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// member says of what a disk is a part that shows at its beginning what the whole would
// show: half of a mirror of md or drbd, which keep what they know at the end, and a loop
// device of all of another device. Mounted alone the halves would part.
func (d *Disk) member() (string, error) {
	for _, m := range []struct {
		at, offset int64
		magic      []string
		what       string
	}{
		{d.size&^(64<<10-1) - 64<<10, 0, []string{"\xfc\x4e\x2b\xa9", "\xa9\x2b\x4e\xfc"}, "a part of an md array that does not run"},
		{(d.size/512 - 16) &^ 7 * 512, 0, []string{"\xfc\x4e\x2b\xa9"}, "a part of an md array that does not run"},
		{d.size&^4095 - 4096, 60, []string{"\x83\x74\x02\x6b"}, "a part of a drbd device that does not run"},
		{d.size&^4095 - 4096, 20, []string{"\x83\x74\x02\x6d"}, "a part of a drbd device that does not run"},
	} {
		if m.at <= 0 {
			continue
		}
		magic := make([]byte, 4)
		if _, err := d.f.ReadAt(magic, m.at+m.offset); err != nil {
			return "", fmt.Errorf("reading %s: %w", d.path, err)
		}
		if slices.Contains(m.magic, string(magic)) {
			return m.what, nil
		}
	}
	if info, err := d.Loop(); err != nil {
		return "", err
	} else if info != nil && info.Rdevice != 0 && info.Offset == 0 && info.Sizelimit == 0 {
		return "a loop device of " + deviceName(info.Rdevice), nil
	}
	return "", nil
}

// Loop is how a loop device is bound; nil for what is none.
func (d *Disk) Loop() (*unix.LoopInfo64, error) {
	if _, err := os.Stat(d.sys + "/loop"); err != nil {
		return nil, nil
	}
	info, err := unix.IoctlLoopGetStatus64(int(d.f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%s: asking what it is bound to: %w", d.path, err)
	}
	return info, nil
}

// identity is the same for all devices that are paths to one disk, and for no other: what
// the disk says of itself to whoever asks for its name. "" if it says nothing.
func (d *Disk) identity() (string, error) {
	if info, err := d.Loop(); err != nil {
		return "", err
	} else if info != nil {
		return loopIdentity(info), nil
	}
	return identityOf(d.sys)
}
