package dirfs

import (
	"bufio"
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// WriteNew makes the new file name with the contents data, in pieces, fsynced. On error
// nothing is left. The entry in the directory is not yet durable.
func (d *Dir) WriteNew(name string, data ...[]byte) (err error) {
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			d.Remove(name)
		}
	}()
	w := bufio.NewWriter(f)
	for _, piece := range data {
		w.Write(piece) // Flush has the error
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// Publish gives the file name the contents data, atomically but not durably:
// for directories that do not outlive the boot.
func (d *Dir) Publish(name string, data []byte) error {
	err := d.publish(name, data)
	if errors.Is(err, unix.ENOSPC) {
		err = fault.Hint(err, "make room in the filesystem of %s (df -h, df -i), which has nothing to do with that of disks", d.Path())
	}
	return err
}

func (d *Dir) publish(name string, data []byte) error {
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
