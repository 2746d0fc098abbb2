package reflink

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/sys"
)

// ErrDiffers is that two files do not hold the same bytes.
var ErrDiffers = errors.New("the two do not hold the same bytes")

// ShareAlike makes a range of dst share the blocks of the same range of src, which must hold the same bytes: that the
// kernel finds out with both files locked (FIDEDUPERANGE, ioctl_fideduperange(2)), so no write to either can be
// lost. ErrDiffers if they do not. It ends at whole blocks, or with the files. Of what reads as zeros it also takes over
// whether there are blocks for it.
func ShareAlike(dst, src *os.File, start, length int64) error {
	for end := start + length; start < end; {
		request := unix.FileDedupeRange{
			Src_offset: uint64(start), Src_length: uint64(end - start), // #nosec G115 -- in a file
			Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(dst.Fd()), Dest_offset: uint64(start)}}, // #nosec G115 -- in a file
		}
		err := sys.Do(func() error { return unix.IoctlFileDedupeRange(int(src.Fd()), &request) })
		done := request.Info[0]
		switch {
		case err != nil:
		case done.Status == unix.FILE_DEDUPE_RANGE_DIFFERS:
			err = ErrDiffers
		case done.Status < 0:
			err = unix.Errno(-done.Status)
		case done.Bytes_deduped == 0:
			err = unix.EIO // it says neither
		}
		if err != nil {
			return &os.LinkError{Op: "FIDEDUPERANGE", Old: src.Name(), New: dst.Name(), Err: Unshared(dst, err)}
		}
		start += int64(done.Bytes_deduped) // #nosec G115 -- at most what was asked for
	}
	return nil
}
