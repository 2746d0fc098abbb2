package sr

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/fault"
	"reflinksr/internal/sys"
)

// LockTimeout bounds the wait for a lock. After it the call fails with ErrBusy
// and names the holder.
const LockTimeout = 30 * time.Second

// glance is for how long a look at an SR holds a lock at most: recovery, which leaves
// alone what others have locked, is not kept from its work by that.
const glance = 50 * time.Millisecond

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

// lockFile locks the file name in d, made if absent. what is the noun for the
// error. It waits until LockTimeout, or only for a glance if try is set.
//
// Lock files may be unlinked by their holder (Discard): whoever waited for one
// that is gone by now starts again with the new one.
func (d *Dir) lockFile(name, what string, mode LockMode, try bool) (*Lock, error) {
	deadline := time.Now().Add(LockTimeout)
	if try {
		deadline = time.Now().Add(glance)
	}
	for {
		f, err := d.openLock(name)
		if err != nil {
			return nil, err
		}
		if err := flock(f, mode, deadline, false); err != nil {
			err = lockError(f, what, err)
			f.Close()
			return nil, err
		}
		current, err := d.sameFile(name, f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if current {
			return &Lock{f: f, dir: d, name: name}, nil
		}
		f.Close()
		if time.Now().After(deadline) {
			return nil, fault.Errorf(fault.ErrBusy, what, "%s cannot be locked: %s is replaced over and over by something else", what, d.join(name))
		}
	}
}

// openLock opens the file name in d, made if absent. Others may make or discard it
// at the same time.
func (d *Dir) openLock(name string) (f *os.File, err error) {
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

// sameFile says whether name still is the open file f.
func (d *Dir) sameFile(name string, f *os.File) (bool, error) {
	held, err := sys.Fstat(f)
	if err == nil {
		err = d.forget()
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

func flock(f *os.File, mode LockMode, deadline time.Time, try bool) error {
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

func lockError(f *os.File, what string, err error) error {
	if err == unix.EBADF { // NFS, mounted read-only: see openLock
		err = unix.EROFS
	}
	if err != unix.EWOULDBLOCK {
		return fmt.Errorf("locking %s: %w", what, err)
	}
	return fault.Errorf(fault.ErrBusy, what, "%s is locked by %s: try again, or end that process", what, holder(f))
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
		if err != nil || pid == os.Getpid() || !hasOpen(pid, st) {
			continue
		}
		return describe(pid)
	}
	return "another host"
}

// hasOpen says whether process pid has the file open. The device number in
// /proc/locks is the superblock's, which on btrfs is not what stat tells.
func hasOpen(pid int, want *unix.Stat_t) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(fd, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return true
		}
	}
	return false
}

func describe(pid int) string {
	call, _, _ := strings.Cut(read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
	text := fmt.Sprintf("process %d (%s", pid, filepath.Base(call))
	if info, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		// The directory's time is about when the process started; a call is one process.
		text += ", since " + info.ModTime().Format(time.TimeOnly)
	}
	return text + ")"
}

func read(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}
