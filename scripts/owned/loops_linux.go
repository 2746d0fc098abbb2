package owned

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/datapath/loop"
)

// Loop is a loop device and the file that it is bound to. As a Device it is only acted on
// while it is bound to that file, by the file's identity.
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
		l, e := hold(number, path)
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

// hold opens the device of a number: as long as it is open it stays bound to the file that
// it is bound to now, whose identity and path go together then.
func hold(number int, sysfs string) (l Loop, err error) {
	l.Number = number
	f, err := os.Open(l.Path())
	if errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrNotExist) {
		return l, errGone
	}
	if err != nil {
		return l, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err == unix.ENXIO {
		return l, errGone
	}
	if err != nil {
		return l, fmt.Errorf("%s: %w", l.Path(), err)
	}
	file, ok := backing(sysfs)
	if !ok {
		return l, errGone
	}
	l.Dev, l.Ino, l.File = info.Device, info.Inode, file
	return l, nil
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
		if _, e := l.Device.Detach(); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Below says that a file's path, as Loops gives it, is below a directory.
func Below(dir string) func(file string) bool {
	return func(file string) bool { return strings.HasPrefix(file, dir+"/") }
}
