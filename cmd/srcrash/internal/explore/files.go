package explore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reflinksr/cmd/srcrash/internal/disk"
	"reflinksr/internal/reflink"
)

// pristine is where the files of the state before are kept on a mounted
// filesystem. A mount takes longer than all the rest of a run; where nothing
// depends on what is on the disk, copies of the files serve as well.
const pristine = ".before"

// keepFiles puts the files that Setup made aside.
func (x *exploration) keepFiles() error {
	if err := os.Mkdir(filepath.Join(x.Dir, pristine), 0o700); err != nil {
		return err
	}
	return x.eachTop(func(name string) error {
		return os.Rename(filepath.Join(x.Dir, name), filepath.Join(x.Dir, pristine, name))
	})
}

// resetFiles makes the directory what Setup left, with files that share their blocks.
func (x *exploration) resetFiles() error {
	if err := x.eachTop(func(name string) error { return os.RemoveAll(filepath.Join(x.Dir, name)) }); err != nil {
		return err
	}
	from := filepath.Join(x.Dir, pristine)
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		to := filepath.Join(x.Dir, path[len(from):])
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			if err := os.Mkdir(to, 0o700); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			if err := cloneFile(path, to); err != nil {
				return err
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		default:
			return fmt.Errorf("%s is neither a file nor a directory nor a link", path)
		}
		return os.Chmod(to, info.Mode())
	})
}

// eachTop visits the names in the top directory that are the subject's.
func (x *exploration) eachTop(do func(name string) error) error {
	entries, err := os.ReadDir(x.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == pristine || e.Name() == disk.Bell {
			continue
		}
		if err := do(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// cloneFile makes the file to, with the attributes and the blocks of from.
func cloneFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	attrs, err := reflink.AttributesOf(src)
	if err != nil {
		return err
	}
	if attrs.NoCOW {
		if err := attrs.Apply(dst); err != nil {
			return err
		}
	}
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return &os.LinkError{Op: "FICLONE", Old: from, New: to, Err: err}
	}
	return nil
}
