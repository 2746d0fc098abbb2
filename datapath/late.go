package datapath

import (
	"log/slog"
	"os"
	"strconv"

	"reflinksr/datapath/loop"
	"reflinksr/sr"
)

// A device that is still open when it is detached goes at its last close, and the number
// that was added for it stays. Which those are is noted, a file for each, so that they do
// not become more and more; whoever detaches another device removes them.
const lateDir = "loop"

// noteLate notes the number of a device that goes later.
func noteLate(d loop.Device) {
	if !d.Added {
		return
	}
	dir, err := sr.Runtime(lateDir)
	if err == nil {
		err = dir.Publish(strconv.Itoa(d.Number), nil)
		dir.Close()
	}
	if err != nil {
		slog.Warn("a loop device's number stays when the device has gone", "device", d.Path(), "err", err)
	}
}

// removeLate removes the numbers of those that have gone since.
func removeLate() {
	dir, err := sr.LookRuntime(lateDir)
	if err != nil {
		return // there never was one
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch err := loop.RemoveNumber(n); {
		case err == nil, os.IsNotExist(err):
			dir.Remove(name)
		}
	}
}
