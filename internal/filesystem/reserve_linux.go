package filesystem

import (
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
	"reflinksr/internal/units"
)

// Whatever fills the filesystem takes the room from the disks that guests write to, whose writes fail then. So what is filled from
// outside, of which nobody knows how much it is, leaves some of it.
const (
	reserved  = 1 << 30 // bytes, or
	reservedN = 50      // one of so many parts of the filesystem, if that is less
	lookAfter = 32 << 20
)

// Filling is a file that is filled on a directory's filesystem, as long as that leaves the reserve.
type Filling struct {
	dir    *dirfs.Dir
	may    int64 // bytes that may be written until the next look
	unseen int64 // bytes that were written, and are not known to be counted in what statfs tells
}

// Fill begins to fill a file. The directory belongs to whoever gives it.
func Fill(dir *dirfs.Dir) *Filling { return &Filling{dir: dir} }

// Take refuses so many bytes more, with ErrNoSpace, that would leave less than the reserve.
func (f *Filling) Take(n int64) error {
	if n > f.may {
		if err := f.look(n); err != nil {
			return err
		}
	}
	f.may -= n
	f.unseen += n
	return nil
}

// look finds out how much may be written, of which n bytes are to be written now. What is in the page cache only, or in btrfs's
// open transaction, may be counted or not, and so may what was freed: only where that matters it is written first.
func (f *Filling) look(n int64) error {
	for synced := false; ; synced = true {
		r, err := RoomOf(f.dir)
		if err != nil {
			return err
		}
		keep := min(r.Total/reservedN, reserved)
		beyond := r.Free - f.unseen - keep
		switch {
		case n <= beyond:
			f.may = max(n, min(beyond, lookAfter))
			return nil
		case synced:
			return fault.Hint(fault.Errorf(fault.ErrNoSpace, f.dir.Path(), "of %s there are %s left, and %s are kept for what guests write to their disks", f.dir.Path(), units.Bytes(max(0, r.Free)), units.Bytes(keep)),
				"%s, or destroy snapshots and disks", r.raise)
		}
		if err := sys.Do(func() error { return unix.Syncfs(f.dir.Fd()) }); err != nil {
			return &os.PathError{Op: "syncfs", Path: f.dir.Path(), Err: err}
		}
		f.unseen = 0
	}
}
