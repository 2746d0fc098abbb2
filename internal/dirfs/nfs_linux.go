package dirfs

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// nfs is a directory that other hosts change by way of a server. A host remembers names and attributes for up to a
// minute (nfs(5), "Data and metadata coherence"), and locking a file makes it forget what it remembers of that file alone.
type nfs struct{}

func (nfs) remote() bool { return true }

func (nfs) revalidate(d *Dir) error {
	return d.ask("", unix.AT_EMPTY_PATH)
}

// renew does not say what is wrong: who looks afterwards does.
func (nfs) renew(d *Dir, name string) { _ = d.ask(name, unix.AT_SYMLINK_NOFOLLOW) }

// ask asks the server for the attributes of name.
func (d *Dir) ask(name string, flags int) error {
	var st unix.Statx_t
	err := sys.Do(func() error {
		return unix.Statx(d.Fd(), name, flags|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	})
	if err != nil {
		return &os.PathError{Op: "stat", Path: d.Join(name), Err: err}
	}
	return nil
}

// current repeats what met a file that is no more on the server: its name is another's,
// or nobody's, since another host has replaced or removed it.
func (n nfs) current(d *Dir, look func() error) error {
	for range 100 {
		err := look()
		if !errors.Is(err, unix.ESTALE) {
			return err
		}
		if err := n.revalidate(d); err != nil {
			return err
		}
	}
	return look()
}

// replaceTimeout is for how long a name can be absent while it is replaced.
const replaceTimeout = 500 * time.Millisecond

func (n nfs) retryReplaced(d *Dir, beside string, look func() error) error {
	deadline := time.Now().Add(replaceTimeout)
	for {
		err := look()
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return err
		}
		there, e := d.Exists(beside)
		if e != nil {
			return e
		}
		if !there {
			return err
		}
		time.Sleep(2 * time.Millisecond)
		if err := n.revalidate(d); err != nil {
			return err
		}
	}
}

// RemovedOpen says whether the name is what NFS gives to a file that was removed while
// a process of that host had it open. It goes when that closes it.
func RemovedOpen(name string) bool { return strings.HasPrefix(name, ".nfs") }

// SelfLock is the name of the file that is locked in the place of an SR's directory
// itself: to lock a directory of NFS keeps away nobody on other hosts.
const SelfLock = ".reflinksr.lock"

// lockSelf locks a file in the directory that goes with the lock. A full filesystem has no room for that, and can
// be destroyed nevertheless: then at least this host keeps itself away.
func (n nfs) lockSelf(d *Dir) (*Lock, error) {
	lock, err := d.LockFile(SelfLock, d.Path(), Exclusive, false)
	if err == nil {
		lock.passing = true
		if err := n.revalidate(d); err != nil {
			lock.Unlock()
			return nil, err
		}
		return lock, nil
	}
	if fault.Classify(err) != fault.ErrNoSpace {
		return nil, n.mayWrite(d, nil, err)
	}
	return d.lockOpen()
}

func (nfs) mayWrite(d *Dir, f *os.File, err error) error {
	if err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if err == nil {
		st, err := sys.Fstat(f)
		if err != nil || st.Uid == 0 {
			return err
		}
	}
	return fault.Hint(fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: its NFS server does not let root of this host be root there (%s)", d.Path(), squashed(err)),
		"export it with no_root_squash to the hosts of the pool, and to no others")
}

func squashed(err error) string {
	if err != nil {
		return err.Error()
	}
	return "files of root have another owner"
}
