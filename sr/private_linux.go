package sr

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// privately runs do in a mount namespace of its own: what do mounts nobody else sees,
// and it is gone with this process, however that ends. What the host unmounts is
// unmounted in there as well, so that nobody is kept from it.
//
// Only do itself is in there, and no goroutine that it starts.
func privately(do func() error) error {
	done := make(chan error)
	go func() {
		// A namespace belongs to the thread, which is not used again: it ends with its
		// goroutine unless that unlocks it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("making a mount namespace: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			done <- fmt.Errorf("making a mount namespace private: %w", err)
			return
		}
		leaveMounts()
		done <- do()
	}()
	return <-done
}

// leaveMounts lets go of what is mounted for SRs in the namespace of this thread, which is
// a copy: where nothing is propagated it would keep their disks in use.
func leaveMounts() {
	for _, e := range parseMountinfo(read("/proc/thread-self/mountinfo")) {
		if strings.HasPrefix(e.path, MountDir+"/") {
			if err := unix.Unmount(e.path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				slog.Warn("a mount of an SR could not be left", "path", e.path, "err", err)
			}
		}
	}
}

// peek runs do with the root of m, which is mounted privately. Messages call it by name.
func (m mountable) peek(name string, do func(root *Dir) error) error {
	dir, err := Runtime("probe")
	if err != nil {
		return err
	}
	dir.Close()
	return privately(func() error {
		point, err := OpenDir(dir.Path()) // one that was opened outside is of another namespace
		if err != nil {
			return err
		}
		err = m.mount(point)
		point.Close()
		if err != nil {
			return err
		}
		root, err := openAs(dir.Path(), name)
		if err == nil {
			err = do(root)
			root.Close()
		}
		return errors.Join(err, unmountPath(dir.Path()))
	})
}

// openAs is OpenDir for a directory that messages call by another name.
func openAs(path, name string) (*Dir, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return newDir(fd, name)
}
