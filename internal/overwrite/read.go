package overwrite

import (
	"os"
	"strconv"
	"sync"

	"reflinksr/internal/attached"
	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
)

// MayRead refuses open files for a tool that reads whole disks from where it is told to: one that somebody writes to, for what is
// read is of no one moment; and one in an SR's directory, for the page cache may not have what the disk of a guest holds,
// and to read it into that can cost the guest an error (docs/scaling.md).
//
// The loop devices of the host are looked at once, for the first of the files: a look takes a process of its own.
func MayRead() func(f *os.File) error {
	loops := sync.OnceValues(blockdev.LoopsOfFiles)
	return func(f *os.File) error {
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
		if err != nil {
			return err
		}
		dir, err := attached.Containing(path)
		if err != nil {
			return err
		}
		if dir != "" {
			return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is in the directory of an SR, %s", path, dir),
				"srctl copy makes another disk of a volume, and srctl export a file")
		}
		return fileIsFree(path, loops)
	}
}
