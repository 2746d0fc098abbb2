package track

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Sweep removes what killed processes have left of their traces.
func Sweep() {
	root, err := open()
	if err != nil {
		return // nobody can have made one
	}
	defer unix.Close(root)
	sweep(root)
}

// sweep leaves alone what a process has open: the kernel removes no such instance.
func sweep(root int) {
	all, err := names(root, instances)
	if err != nil {
		return
	}
	for _, name := range all {
		var pid, number int
		if n, _ := fmt.Sscanf(name, prefix+"%d-%d", &pid, &number); n != 2 || unix.Kill(pid, 0) != unix.ESRCH {
			continue // it is being made, or used
		}
		switch err := unix.Unlinkat(root, instances+"/"+name, unix.AT_REMOVEDIR); err {
		case nil:
			slog.Info("the trace of a process that was killed is removed", "instance", name)
		case unix.EBUSY, unix.ENOENT, unix.ENODEV:
		default:
			slog.Warn("the trace of a process that was killed stays", "instance", name, "err", err)
		}
	}
}
