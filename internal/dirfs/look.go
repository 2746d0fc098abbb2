package dirfs

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// LookTimeout is how long a look at an SR waits for a call to end that changes what is
// looked at.
const LookTimeout = 2 * time.Second

// LookLock is LookLockFor for a moment.
func (d *Dir) LookLock(name string) (lock *Lock, busy string, err error) {
	return d.LookLockFor(name, LookTimeout)
}

// LookLockFor takes an existing lock file, shared, without making one: nil if there is
// none. busy tells who has it alone if waiting did not help.
func (d *Dir) LookLockFor(name string, wait time.Duration) (_ *Lock, busy string, err error) {
	for {
		fd, err := sys.Retry(func() (int, error) {
			return unix.Openat(d.Fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		})
		if err == unix.ENOENT || err == unix.ELOOP {
			return nil, "", nil
		}
		if err != nil {
			return nil, "", &os.PathError{Op: "open", Path: d.Join(name), Err: err}
		}
		f := os.NewFile(uintptr(fd), d.Join(name))
		err = Flock(f, Shared, time.Now().Add(wait), wait == 0)
		if err == unix.EWOULDBLOCK {
			busy := holder(f)
			f.Close()
			return nil, busy, nil
		}
		current := true
		if err == nil {
			current, err = d.SameFile(name, f)
		}
		if err != nil && !errors.Is(err, fault.ErrDamaged) {
			f.Close()
			return nil, "", err
		}
		if current || err != nil {
			return &Lock{f: f, dir: d, name: name}, "", nil
		}
		f.Close()
	}
}
