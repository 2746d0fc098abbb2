package overwrite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reflinksr/internal/blockdev"
	"reflinksr/internal/fault"
	"reflinksr/internal/mountinfo"
	"reflinksr/internal/sys"
)

// FileIsFree refuses a file that is a block device now, or that anybody has open for writing:
// a guest's disk is a file to qemu and tapdisk, which lock it against none but each other. It
// is asked before this process opens the file for writing itself. The file need not be there.
func FileIsFree(path string) error { return fileIsFree(path, blockdev.LoopsOfFiles) }

func fileIsFree(path string, loops func() (map[blockdev.FileID]string, error)) error {
	if err := fileOfNoDevice(path, loops); err != nil {
		return err
	}
	// O_NONBLOCK: a pipe has no writer yet; it is told what is wrong with that later.
	fd, err := sys.Retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := sys.Fstat(f)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	writers, known, err := leaseTells(f)
	if err != nil || known && !writers {
		return err
	}
	users, err := fileWriters(st, path)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is in use: %s has it open for writing", path, strings.Join(users, ", ")),
			"end that, or give another file")
	}
	if writers {
		return fault.Hint(fault.Errorf(fault.ErrSRInUse, path, "%s is in use: it is open for writing, by no process that can be seen in /proc", path),
			"look for one in a container, and for what the kernel itself serves from files (targetcli ls, exportfs), or give another file")
	}
	return nil
}

// leaseTells says whether anybody has a file open for writing, mapped or in the kernel too:
// a lease for reading is given if nobody has (check_conflicting_open in fs/locks.c). It is
// not known where leases are not given, or depend on a server's mood.
func leaseTells(f *os.File) (writers, known bool, err error) {
	st, err := sys.Fstatfs(f)
	if err != nil || slices.Contains(servedKinds, uint32(st.Type)) { // #nosec G115 -- the magic numbers have 32 bits
		return false, false, err
	}
	_, err = sys.Retry(func() (int, error) { return unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK) })
	switch err {
	case nil:
		_, err = sys.Retry(func() (int, error) { return unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) })
		return false, true, err
	case unix.EAGAIN:
		return true, true, nil
	}
	return false, false, nil // none here, or not for us
}

// servedKinds are filesystems of which other machines or processes decide who gets a lease.
var servedKinds = []uint32{unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
	unix.CEPH_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC}

// fileWriters names the processes that have the file open for writing.
func fileWriters(file *unix.Stat_t, path string) (users []string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	remote := mountinfo.Remote()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if writesFile(pid, file, filepath.Base(path), remote) {
			users = append(users, fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(sys.Text(fmt.Sprintf("/proc/%d/comm", pid)))))
		}
	}
	return users, nil
}

func writesFile(pid int, file *unix.Stat_t, name string, remote []string) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	entries, _ := os.ReadDir(dir + "fd") // of one that has ended there is none
	for _, e := range entries {
		// A server that is away must not hold us up: of what it has, only what has the name
		// is looked at, and without asking it.
		to, err := os.Readlink(dir + "fd/" + e.Name())
		if err != nil || mountinfo.LeadsTo(to, remote) && filepath.Base(to) != name {
			continue
		}
		var st unix.Statx_t
		err = sys.Do(func() error {
			return unix.Statx(unix.AT_FDCWD, dir+"fd/"+e.Name(), unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
		})
		if err != nil || st.Ino != file.Ino || unix.Mkdev(st.Dev_major, st.Dev_minor) != file.Dev {
			continue
		}
		for line := range strings.Lines(sys.Text(dir + "fdinfo/" + e.Name())) {
			flags, ok := strings.CutPrefix(line, "flags:")
			n, err := strconv.ParseUint(strings.TrimSpace(flags), 8, 64)
			if ok && err == nil && n&unix.O_PATH == 0 && n&unix.O_ACCMODE != unix.O_RDONLY {
				return true
			}
		}
	}
	return false
}
