package owned

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/loop"
)

// Loop is a loop device and the file that it is bound to. As a Device it is only acted on
// while it is bound to that file, by the file's identity; that is 0, 0 where the filesystem
// does not answer, a FUSE whose program has ended say: then the path is all there is.
type Loop struct {
	loop.Device
	File string // the path as sysfs has it; "… (deleted)" if it is
}

// Loops lists the loop devices that are bound to a file for which is says so. Devices
// whose file's path does not are not opened: that delays their end for whoever has them.
func Loops(is func(file string) bool) (found []Loop, err error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range bound {
		number, e := strconv.Atoi(strings.TrimPrefix(strings.Split(path, "/")[3], "loop"))
		if file, ok := backing(path); e != nil || !ok || !is(file) {
			continue
		}
		l, e := look(number, path)
		switch {
		case e == errGone:
		case e != nil:
			err = errors.Join(err, e)
		case is(l.File):
			found = append(found, l)
		}
	}
	return found, err
}

var errGone = errors.New("it is bound no more")

// look holds a device for a moment.
func look(number int, sysfs string) (Loop, error) {
	l, f, err := hold(number, sysfs)
	if err == nil {
		f.Close()
	}
	return l, err
}

// hold opens the device of a number: as long as it is open it stays bound to the file that
// it is bound to now, whose identity and path go together then.
func hold(number int, sysfs string) (l Loop, f *os.File, err error) {
	l.Number = number
	f, err = os.Open(l.Path())
	if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
		return l, nil, errGone
	}
	if err != nil {
		return l, nil, err
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	file, ok := backing(sysfs)
	if err == unix.ENXIO || !ok {
		f.Close()
		return l, nil, errGone
	}
	l.File = file
	if err == nil { // else the file cannot be looked at
		l.Dev, l.Ino = info.Device, info.Inode
	}
	return l, f, nil
}

// backing reads the path of a device's file.
func backing(sysfs string) (file string, ok bool) {
	data, err := os.ReadFile(sysfs)
	return strings.TrimSuffix(string(data), "\n"), err == nil
}

// Detach lets go of devices that Loops has found, each unless its number has become
// somebody else's meanwhile. What is still open goes with its last close.
func Detach(devices []Loop) (err error) {
	for _, l := range devices {
		if l.Dev == 0 && l.Ino == 0 {
			err = errors.Join(err, detachByPath(l))
			continue
		}
		if _, e := l.Device.Detach(); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// detachByPath is Detach of a file that cannot be looked at.
func detachByPath(l Loop) error {
	now, f, err := hold(l.Number, fmt.Sprintf("/sys/block/loop%d/loop/backing_file", l.Number))
	if err == errGone {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if now != l {
		return nil
	}
	return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
}

// Below says that a file's path, as Loops gives it, is below a directory.
func Below(dir string) func(file string) bool {
	return func(file string) bool { return strings.HasPrefix(file, dir+"/") }
}
