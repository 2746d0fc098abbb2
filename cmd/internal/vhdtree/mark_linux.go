package vhdtree

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/image"
	"reflinksr/internal/sys"
)

// openDir opens the directory, by a path of the operator's, who may have links in it.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// openFile opens a file of a directory, which a link is not, without a trace in its time of access where the kernel lets us.
func openFile(dir *os.File, path, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	path = filepath.Join(path, name)
	var fd int
	var err error
	for _, more := range []int{unix.O_NOATIME, 0} {
		fd, err = sys.Retry(func() (int, error) { return unix.Openat(int(dir.Fd()), name, flags|more, 0) })
		if err != unix.EPERM {
			break
		}
	}
	if err == unix.ELOOP {
		return nil, fault.Errorf(fault.ErrInvalid, path, "%s is a link, which is not followed", path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func markOf(in *os.File, v *image.VHD) (mark, error) {
	st, err := sys.Fstat(in)
	if err != nil {
		return mark{}, err
	}
	return mark{dev: st.Dev, ino: st.Ino, size: st.Size, written: time.Unix(st.Mtim.Unix()), footer: string(v.Footer[:])}, nil
}

// stampOf leaves out which file it is: a source that is mounted again has other numbers.
func stampOf(f *File) string {
	sum := sha256.New()
	for ; f != nil; f = f.Parent {
		fmt.Fprintf(sum, "%s %d %d %x\n", f.Key, f.mark.size, f.mark.written.UnixNano(), f.mark.footer)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:16])
}
