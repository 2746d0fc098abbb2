package loop

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Detach unbinds the device. While somebody has it open the kernel answers
// success all the same and unbinds at the last close; gone is false then.
func (d Device) Detach() (gone bool, err error) {
	err = d.blindly(func(f *os.File) error {
		setReadOnly(f, false) // the mark would stay with the number
		removePartitions(f, d.Number)
		return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0)
	})
	// udev and blkid open devices for moments; whoever stays longer is a user.
	for range 50 {
		if errors.Is(err, ErrGone) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err = d.blindly(func(*os.File) error { return nil }); err == nil {
			time.Sleep(4 * time.Millisecond)
		}
	}
	return false, nil
}

// Release lets go of the device: now, or when what has it open (a mounted
// filesystem) lets go of it.
func (d Device) Release() error {
	return d.with(func(f *os.File, _ *unix.LoopInfo64) error { return unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0) })
}

// Keep takes back a Detach that waits for the last close. From then on the device
// stays until somebody detaches it.
func (d Device) Keep() error {
	return d.with(func(f *os.File, info *unix.LoopInfo64) error {
		if info.Flags&unix.LO_FLAGS_AUTOCLEAR == 0 {
			return nil
		}
		info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
		return unix.IoctlLoopSetStatus64(int(f.Fd()), info)
	})
}

// blindly is with for who lets go of the device, and so needs to know nothing of the file:
// if that cannot be looked at because its filesystem has died, the device still is what it
// was.
func (d Device) blindly(do func(*os.File) error) error {
	err := d.with(func(f *os.File, _ *unix.LoopInfo64) error { return do(f) })
	if err == nil || errors.Is(err, ErrGone) {
		return err
	}
	same, e := d.isInstance()
	if e != nil {
		return errors.Join(err, e)
	}
	if !same {
		return ErrGone
	}
	f, e := d.open(os.O_RDONLY)
	if errors.Is(e, unix.ENXIO) || errors.Is(e, os.ErrNotExist) {
		return ErrGone
	}
	if e != nil {
		return errors.Join(err, e)
	}
	defer f.Close()
	// Now that it is open its number stays what it is.
	if same, e = d.isInstance(); e != nil || !same {
		return errors.Join(ErrGone, e)
	}
	if e := do(f); e != nil && e != unix.ENXIO {
		return fmt.Errorf("%s: %w", d.Path(), e)
	}
	return nil
}
