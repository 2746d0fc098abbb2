package precopy

import (
	"os"

	"reflinksr/internal/extent"
	"reflinksr/internal/reflink"
	"reflinksr/internal/sys"
)

// Begin makes the empty file dst a clone of an earlier state of the disk, which nobody writes to, for a Take that begins there.
// See commitExtents for btrfs.
func Begin(dst, earlier *os.File) error { return begin(dst, earlier, commitExtents) }

func begin(dst, earlier *os.File, extents int) error {
	fs, err := sys.Fstatfs(earlier)
	if err != nil {
		return err
	}
	if sys.KindOfMagic(fs) != "btrfs" {
		return reflink.CloneFile(dst, earlier)
	}
	cursor := extent.NewCursor(earlier, 0)
	for at := int64(0); ; {
		end, more, err := after(&cursor, extents)
		switch {
		case err != nil:
			return err
		case !more && at == 0:
			return reflink.CloneFile(dst, earlier)
		case !more:
			st, err := sys.Fstat(earlier)
			if err != nil {
				return err
			}
			return reflink.CloneRange(dst, earlier, at, st.Size)
		}
		if err := reflink.CloneRange(dst, earlier, at, end); err != nil {
			return err
		}
		if err := commit(dst); err != nil {
			return err
		}
		at = end
	}
}

// after is where the next n extents end, if there are more.
func after(cursor *extent.Cursor, n int) (end int64, more bool, err error) {
	for range n {
		e, ok, err := cursor.Next()
		if err != nil || !ok {
			return 0, false, err
		}
		end = e.Logical + e.Length
	}
	return end, true, nil
}
