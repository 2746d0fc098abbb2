package mount

import (
	"errors"

	"golang.org/x/sys/unix"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/dirfs"
)

// WithoutLog are the options that mount a filesystem as it is, with its log not replayed:
// nothing is written to the disk.
var WithoutLog = map[string]string{"xfs": "norecovery", "btrfs": "rescue=nologreplay"}

// PeekDisk runs do with the root of the disk's filesystem, mounted privately and read-only. One
// that is mounted already is only mounted as it is, which changes nothing. others are
// options that name the other disks that it is on.
func PeekDisk(d *blockdev.Disk, sb blockdev.Superblock, data string, others []string, do func(root *dirfs.Dir) error) error {
	mounts := d.Mounts()
	if len(mounts) > 0 {
		data = ""
	}
	m := Spec{Source: d.Path(), Kind: sb.Kind, Flags: Flags | unix.MS_RDONLY, Data: Options(sb.Kind, append([]string{data}, others...)...)}
	if len(mounts) > 0 && !mounts[0].ReadOnly {
		m.Flags = Flags
	}
	err := m.Peek(d.Path(), do)
	if errors.Is(err, unix.EINVAL) && data == WithoutLog["btrfs"] {
		m.Data = Options(sb.Kind, append([]string{"nologreplay"}, others...)...) // its name until Linux 5.9
		err = m.Peek(d.Path(), do)
	}
	return err
}
