package dirfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/procs"
	"reflinksr/internal/sys"
)

// LockTimeout bounds the wait for a lock. After it the call fails with ErrBusy
// and names the holder.
const LockTimeout = 30 * time.Second

// tryTimeout is for how long a look at an SR holds a lock at most: recovery, which leaves
// alone what others have locked, is not kept from its work by that.
const tryTimeout = 50 * time.Millisecond

// LockMode says how a lock is taken.
type LockMode int

const (
	Unlocked  LockMode = iota // readers: a single look is consistent without
	Shared                    // together with other Shared holders
	Exclusive                 // alone
)

// Lock is a held flock(2). It is released by Unlock and by the death of the
// process; it has no stale state.
type Lock struct {
	f       *os.File
	dir     *Dir
	name    string
	passing bool // the file goes with the lock
}

// LockFile locks the file name in d, made if absent. what is the noun for the
// error. It waits until LockTimeout, or tryTimeout if try is set.
//
// Lock files may be unlinked by their holder (Discard): whoever waited for one
// that is gone by now starts again with the new one.
func (d *Dir) LockFile(name, what string, mode LockMode, try bool) (*Lock, error) {
	deadline := time.Now().Add(LockTimeout)
	if try {
		deadline = time.Now().Add(tryTimeout)
	}
	for {
		f, err := d.OpenLock(name)
		if err != nil {
			return nil, err
		}
		if err := Flock(f, mode, deadline, false); err != nil {
			err = LockError(f, what, err)
			f.Close()
			return nil, err
		}
		current, err := d.SameFile(name, f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if current {
			return &Lock{f: f, dir: d, name: name}, nil
		}
		f.Close()
		if time.Now().After(deadline) {
			return nil, fault.Errorf(fault.ErrBusy, what, "%s cannot be locked: %s is replaced over and over by something else", what, d.Join(name))
		}
	}
}

// OpenLock opens the file name in d, made if absent. Others may make or discard it
// at the same time.
func (d *Dir) OpenLock(name string) (f *os.File, err error) {
	for range 100 {
		f, err = d.Open(name, unix.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			f, err = d.Create(name)
		}
		if !errors.Is(err, os.ErrExist) {
			break
		}
	}
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		// A read-only filesystem can still be locked against other readers of it.
		if readable, e := d.Open(name, unix.O_RDONLY); e == nil {
			return readable, nil
		}
	}
	return f, err
}

// SameFile says whether name still is the open file f.
func (d *Dir) SameFile(name string, f *os.File) (bool, error) {
	held, err := sys.Fstat(f)
	if err == nil {
		err = d.Revalidate()
	}
	if err != nil {
		return false, err
	}
	now, err := d.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && now.Ino == held.Ino && now.Dev == held.Dev, err
}

// Flock locks an open file, and waits for that until the deadline: unix.EWOULDBLOCK after it, or at once if try is set.
func Flock(f *os.File, mode LockMode, deadline time.Time, try bool) error {
	how := unix.LOCK_SH | unix.LOCK_NB
	if mode == Exclusive {
		how = unix.LOCK_EX | unix.LOCK_NB
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := sys.Do(func() error { return unix.Flock(int(f.Fd()), how) })
		if err != unix.EWOULDBLOCK || try || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// File is the open lock file. It belongs to the lock.
func (l *Lock) File() *os.File { return l.f }

// Unlock releases the lock. Unlocking nil does nothing.
func (l *Lock) Unlock() {
	if l == nil {
		return
	}
	if l.passing {
		l.dir.Remove(l.name)
	}
	l.f.Close()
}

// Discard unlinks the lock file and releases the lock. Only when what it protects
// is gone for good. Discarding nil does nothing.
func (l *Lock) Discard() {
	if l == nil {
		return
	}
	l.dir.Remove(l.name)
	l.Unlock()
}

// LockError is the error of a lock that could not be had: it names who has it. what is the noun.
func LockError(f *os.File, what string, err error) error {
	if err == unix.EBADF { // NFS, mounted read-only: see OpenLock
		err = unix.EROFS
	}
	if err != unix.EWOULDBLOCK {
		return fmt.Errorf("locking %s: %w", what, err)
	}
	return fault.Hint(fault.Errorf(fault.ErrBusy, what, "%s is locked by %s", what, holder(f)),
		"try again, or end that process")
}

// holder describes who holds the flock on f, from /proc/locks. Only the slow
// path asks.
func holder(f *os.File) string {
	st, err := sys.Fstat(f)
	if err != nil {
		return "an unknown process"
	}
	data, _ := os.ReadFile("/proc/locks") // proc_locks(5): N: FLOCK ADVISORY WRITE pid maj:min:inode 0 EOF
	suffix := fmt.Sprintf(":%d", st.Ino)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || !strings.HasSuffix(fields[5], suffix) {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil || pid == os.Getpid() || !procs.HasOpen(pid, st) {
			continue
		}
		return procs.Describe(pid)
	}
	return "another host"
}

// TryLock is Lock for a moment: ErrBusy if somebody else has it.
func (d *Dir) TryLock(name, what string) (*Lock, error) {
	return d.LockFile(name, what, Exclusive, true)
}

// Lock takes an exclusive lock on the file name in d; what is the noun for the error.
func (d *Dir) Lock(name, what string) (*Lock, error) {
	return d.LockFile(name, what, Exclusive, false)
}

// lockOpen locks the directory itself, by a descriptor of its own that is closed with the lock.
func (d *Dir) lockOpen() (*Lock, error) {
	own, err := d.Sub(".")
	if err != nil {
		return nil, err
	}
	if err := Flock(own.f, Exclusive, time.Now().Add(LockTimeout), false); err != nil {
		err = LockError(own.f, d.Path(), err)
		own.Close()
		return nil, err
	}
	return &Lock{f: own.f}, nil
}
