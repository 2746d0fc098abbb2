package rrd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// fileSize is room for the disks of some 4,000 guests. The daemon maps the file when the plugin is registered and never looks at
// its size again, so it has to have its last one from the beginning. What is not written takes no memory.
const fileSize = 16 << 20

// File is where a plugin leaves what it has measured.
type File struct {
	path string
	f    *os.File
}

// CreateFile makes the file at a path, with nothing measured. It gets its name when it is whole, for the daemon registers what it
// finds; and it is always a new one, which a daemon that has the plugin registered does not see: deregister it before.
func CreateFile(path string, at time.Time) (_ *File, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	made := path + ".tmp" // by which name the daemon leaves it alone
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(made)
		}
	}()
	file := &File{path: path, f: f}
	if err := f.Truncate(fileSize); err != nil {
		return nil, err
	}
	if err := file.Write(at, nil); err != nil {
		return nil, err
	}
	return file, os.Rename(made, path)
}

// Write replaces what was measured. The daemon may read meanwhile: checksums tell it that it has half of this, and it skips that
// reading; the header, which has them, comes last.
func (f *File) Write(at time.Time, sources []Source) error {
	p, err := payload(at, sources)
	if err != nil {
		return err
	}
	if len(p) > fileSize {
		return fmt.Errorf("%d sources of graphs need %d bytes, of at most %d", len(sources), len(p), fileSize)
	}
	if _, err := f.f.WriteAt(p[valuesAt:], int64(valuesAt)); err != nil {
		return err
	}
	_, err = f.f.WriteAt(p[:valuesAt], 0)
	return err
}

// InPlace says whether the path still is of this file.
func (f *File) InPlace() bool {
	ours, err := f.f.Stat()
	there, e := os.Lstat(f.path)
	return err == nil && e == nil && os.SameFile(ours, there)
}

// Close closes the file. What was measured last stays.
func (f *File) Close() error { return f.f.Close() }

// Remove ends it.
func (f *File) Remove() error { return errors.Join(os.Remove(f.path), f.f.Close()) }
