package blockdev

import (
	"path/filepath"
)

// LoopOfFile finds a loop device of the file. One that does not answer is left out.
func LoopOfFile(dev, ino uint64) (string, error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return "", err
	}
	var nodes []string
	for _, sys := range bound {
		nodes = append(nodes, "/dev/"+filepath.Base(filepath.Dir(sys)))
	}
	for i, answer := range LookAtAll("loop", nodes) {
		if IsShortage(answer.Err) {
			return "", answer.Err
		}
		if answer.Err == nil && answer.Dev == dev && answer.Ino == ino {
			return nodes[i], nil
		}
	}
	return "", nil
}

// lookAtLoop looks at the file behind a loop device.
func lookAtLoop(path string) (l Look, err error) {
	info, err := loopStatus(filepath.Base(path))
	if err == nil {
		l.Dev, l.Ino, l.Rdev, l.Offset, l.Same = info.Device, info.Inode, info.Rdevice, int64(info.Offset), loopIdentity(info) // #nosec G115 -- of a file: below 2^63
	}
	return l, err
}
