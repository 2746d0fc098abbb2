package sr

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// RuntimeDir holds what is about this boot of this host: which SRs are attached
// (sr/) and which volumes have a device (volume/). It is on tmpfs and gone with
// the boot, as are the things it speaks of.
const RuntimeDir = "/run/reflinksr"

// Runtime opens a subdirectory of RuntimeDir, made if absent.
func Runtime(name string) (*Dir, error) {
	run, err := OpenDir("/run")
	if err != nil {
		return nil, err
	}
	defer run.Close()
	if err := run.mkdir("reflinksr"); err != nil {
		return nil, err
	}
	top, err := OpenDir(RuntimeDir) // not by Sub: it may be a filesystem of its own
	if err != nil {
		return nil, err
	}
	defer top.Close()
	if err := setMode(top.f, 0o700); err != nil {
		return nil, err
	}
	return top.Mkdir(name)
}

// LookRuntime is Runtime for who only reads: it makes nothing, and is os.ErrNotExist
// if nothing was ever noted there.
func LookRuntime(name string) (*Dir, error) {
	top, err := OpenDir(RuntimeDir)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	return top.Sub(name)
}

// Publish gives the file name the contents data, atomically but not durably:
// for directories that do not outlive the boot.
func (d *Dir) Publish(name string, data []byte) error {
	temp := name + ".new"
	if err := d.Remove(temp); err != nil {
		return err
	}
	f, err := d.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Close()
	} else {
		f.Close()
	}
	if err == nil {
		err = d.Rename(temp, d, name)
	}
	if err != nil {
		d.Remove(temp)
	}
	return err
}

// Republish is Publish of what says less than what is there. Giving back must not need room:
// where there is none for a new file, the old one is overwritten in place, filled up with
// blanks, which in JSON mean nothing.
func (d *Dir) Republish(name string, data []byte) error {
	err := d.Publish(name, data)
	if fault.Classify(err) != fault.ErrNoSpace {
		return err
	}
	f, e := d.Open(name, unix.O_RDWR)
	if errors.Is(e, os.ErrNotExist) {
		return err
	}
	if e != nil {
		return errors.Join(err, e)
	}
	defer f.Close()
	st, e := sys.Fstat(f)
	if e != nil || st.Size < int64(len(data)) {
		return errors.Join(err, e)
	}
	_, e = f.WriteAt(append(data, bytes.Repeat([]byte{' '}, int(st.Size)-len(data))...), 0)
	return e
}

// TryLock is Lock for a moment: ErrBusy if somebody else has it.
func (d *Dir) TryLock(name, what string) (*Lock, error) {
	return d.lockFile(name, what, Exclusive, true)
}

// Lock takes an exclusive lock on the file name in d; what is the noun for the error.
func (d *Dir) Lock(name, what string) (*Lock, error) {
	return d.lockFile(name, what, Exclusive, false)
}
