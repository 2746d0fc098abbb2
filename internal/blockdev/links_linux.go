package blockdev

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// byLinks tells of a file behind a device that it has more names than the one by which it
// was opened: one of them may be that of a volume, of an SR that is not attached here, and
// nobody finds it without reading the whole filesystem.
func byLinks(file string, dev, ino uint64) string {
	var st unix.Stat_t
	if err := sys.Do(func() error { return unix.Stat(file, &st) }); err != nil || st.Dev != dev || st.Ino != ino || st.Nlink < 2 {
		return ""
	}
	return fmt.Sprintf("the device of %s, which has %d names (hard links), one of which may be a volume's", file, st.Nlink)
}
