package mount

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
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

// WithOnly is privately, with no block device but this one, and nothing that servers have: mkfs
// looks at all mount points of the host, and at all its disks, and would wait for those that
// do not answer.
func WithOnly(device string, do func() error) error {
	return privately(func() error {
		for _, path := range slices.Backward(mountinfo.Remote()) {
			if err := unix.Unmount(strings.TrimSuffix(path, "/"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				slog.Info("a mount of a server could not be left", "path", path, "err", err)
			}
		}
		if err := hideDevices(device); err != nil {
			return fmt.Errorf("hiding other devices from mkfs: %w", err)
		}
		return do()
	})
}

// hideDevices leaves this thread none but these, in a /dev of its own.
func hideDevices(device string) error {
	devices := map[string]unix.Stat_t{}
	for _, path := range []string{device, "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/btrfs-control"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil && strings.HasPrefix(path, "/dev/") {
			devices[path] = st
		}
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=1m,mode=755"); err != nil {
		return err
	}
	for path, st := range devices {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		number := int(st.Rdev) // #nosec G115 -- the kernel's own
		if err := unix.Mknod(path, st.Mode, number); err != nil {
			return &os.PathError{Op: "mknod", Path: path, Err: err}
		}
	}
	return nil
}

// leaveMounts lets go of what is mounted for SRs in the namespace of this thread, which is
// a copy: where nothing is propagated it would keep their disks in use.
func leaveMounts() {
	for _, e := range mountinfo.Parse(sys.Text("/proc/thread-self/mountinfo")) {
		if strings.HasPrefix(e.Path, Dir+"/") {
			if err := unix.Unmount(e.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
				slog.Warn("a mount of an SR could not be left", "path", e.Path, "err", err)
			}
		}
	}
}

// Peek runs do with the root of m, which is mounted privately. Messages call it by name.
func (m Spec) Peek(name string, do func(root *dirfs.Dir) error) error {
	dir, err := rundir.Open("probe")
	if err != nil {
		return err
	}
	dir.Close()
	return privately(func() error {
		point, err := dirfs.OpenDir(dir.Path()) // one that was opened outside is of another namespace
		if err != nil {
			return err
		}
		err = m.Mount(point)
		point.Close()
		if err != nil {
			return err
		}
		root, err := openAs(dir.Path(), name)
		if err == nil {
			err = do(root)
			root.Close()
		}
		return errors.Join(err, Unmount(dir.Path()))
	})
}

// openAs is OpenDir for a directory that messages call by another name.
func openAs(path, name string) (*dirfs.Dir, error) {
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return dirfs.FromFD(fd, name)
}
