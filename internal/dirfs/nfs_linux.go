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

// remote says whether what is open is on NFS.
func remote(f *os.File) (bool, error) {
	st, err := sys.Fstatfs(f)
	return err == nil && int64(st.Type) == unix.NFS_SUPER_MAGIC, err
}

// Revalidate makes this host ask the server before it believes what it remembers of the
// names in the directory. Only NFS remembers.
func (d *Dir) Revalidate() error {
	if !d.remote {
		return nil
	}
	return d.ask("", unix.AT_EMPTY_PATH)
}

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
func (d *Dir) current(do func() error) error {
	for range 100 {
		err := do()
		if !d.remote || !errors.Is(err, unix.ESTALE) {
			return err
		}
		if err := d.Revalidate(); err != nil {
			return err
		}
	}
	return do()
}

// replaceTimeout is for how long a name can be absent while it is replaced.
const replaceTimeout = 500 * time.Millisecond

// RetryReplaced repeats look for as long as it is os.ErrNotExist by chance: on NFS a file
// that is replaced while a process of the same host has it open is renamed first, and
// its name is nobody's for a moment (nfs_rename in fs/nfs/dir.c). It is absent for good
// if the name beside, which goes at the same time, is.
func (d *Dir) RetryReplaced(beside string, look func() error) error {
	deadline := time.Now().Add(replaceTimeout)
	for {
		err := look()
		if !d.remote || !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
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
		if err := d.Revalidate(); err != nil {
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

// MayWrite refuses an export whose server does not take our root for root.
func (d *Dir) MayWrite(f *os.File, err error) error {
	if !d.remote || err != nil && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		return err
	}
	if err == nil {
		st, err := sys.Fstat(f)
		if err != nil || st.Uid == 0 {
			return err
		}
	}
	return fault.Errorf(fault.ErrUnsuitable, d.Path(), "%s: its NFS server does not let root of this host be root there (%s): export it with no_root_squash to the hosts of the pool, and to no others",
		d.Path(), squashed(err))
}

func squashed(err error) string {
	if err != nil {
		return err.Error()
	}
	return "files of root have another owner"
}
