package blockdev

import (
	"path/filepath"
)

// FileID is what no two files have in common at one moment.
type FileID struct{ Dev, Ino uint64 }

// LoopsOfFiles finds a loop device of each file that has one. One that does not answer is left out.
func LoopsOfFiles() (map[FileID]string, error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, sys := range bound {
		nodes = append(nodes, "/dev/"+filepath.Base(filepath.Dir(sys)))
	}
	loops := map[FileID]string{}
	for i, answer := range LookAtAll("loop", nodes) {
		if IsShortage(answer.Err) {
			return nil, answer.Err
		}
		if answer.Err == nil {
			loops[FileID{answer.Dev, answer.Ino}] = nodes[i]
		}
	}
	return loops, nil
}

// lookAtLoop looks at the file behind a loop device.
func lookAtLoop(path string) (l Look, err error) {
	info, err := loopStatus(filepath.Base(path))
	if err == nil {
		l.Dev, l.Ino, l.Rdev, l.Offset, l.Same = info.Device, info.Inode, info.Rdevice, int64(info.Offset), loopIdentity(info) // #nosec G115 -- of a file: below 2^63
	}
	return l, err
}
