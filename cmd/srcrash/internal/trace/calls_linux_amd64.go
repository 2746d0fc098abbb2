package trace

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// call describes a traced system call: where its arguments are.
type call struct {
	name string
	kind Kind
	// Numbers of arguments, from 0; -1: none. A path is relative to the directory
	// at, or to the working directory; fd is an open file.
	at, path, at2, path2, fd int
}

func byPath(name string, at, path int) call  { return call{name, Change, at, path, -1, -1, -1} }
func byFD(name string, k Kind, fd int) call  { return call{name, k, -1, -1, -1, -1, fd} }
func twice(name string, a, p, b, q int) call { return call{name, Change, a, p, b, q, -1} }

// harmless are the system calls that change nothing outside their process, and so are
// let through. Every other one is stopped: nothing is missed for not being known.
var harmless = []uint64{
	unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_READV, unix.SYS_PREADV, unix.SYS_PREADV2, unix.SYS_CLOSE, unix.SYS_CLOSE_RANGE,
	unix.SYS_STAT, unix.SYS_FSTAT, unix.SYS_LSTAT, unix.SYS_NEWFSTATAT, unix.SYS_STATX, unix.SYS_STATFS, unix.SYS_FSTATFS,
	unix.SYS_ACCESS, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_READLINK, unix.SYS_READLINKAT, unix.SYS_GETCWD,
	unix.SYS_CHDIR, unix.SYS_FCHDIR, unix.SYS_GETDENTS64, unix.SYS_LSEEK, unix.SYS_GETXATTR, unix.SYS_LGETXATTR,
	unix.SYS_FGETXATTR, unix.SYS_LISTXATTR, unix.SYS_LLISTXATTR, unix.SYS_FLISTXATTR, unix.SYS_FADVISE64, unix.SYS_READAHEAD,
	unix.SYS_UMASK, unix.SYS_FCNTL, unix.SYS_DUP, unix.SYS_DUP2, unix.SYS_DUP3, unix.SYS_PIPE, unix.SYS_PIPE2,
	unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_MREMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK, unix.SYS_MEMBARRIER,
	unix.SYS_MEMFD_CREATE,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGSUSPEND, unix.SYS_RT_SIGTIMEDWAIT,
	unix.SYS_RT_SIGPENDING, unix.SYS_SIGALTSTACK, unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL, unix.SYS_PAUSE,
	unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_EXECVE, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_SET_TID_ADDRESS,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_GET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_ARCH_PRCTL, unix.SYS_PRCTL, unix.SYS_PRLIMIT64,
	unix.SYS_GETRLIMIT, unix.SYS_SETRLIMIT, unix.SYS_GETRUSAGE, unix.SYS_SETPGID, unix.SYS_GETPGID, unix.SYS_GETPGRP,
	unix.SYS_SETSID, unix.SYS_GETSID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETTID, unix.SYS_GETUID, unix.SYS_GETEUID,
	unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETGROUPS, unix.SYS_SETGROUPS, unix.SYS_SETUID, unix.SYS_SETGID,
	unix.SYS_GETRESUID, unix.SYS_GETRESGID, unix.SYS_CAPGET, unix.SYS_UNAME, unix.SYS_SYSINFO, unix.SYS_GETRANDOM,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES,
	unix.SYS_GETTIMEOFDAY, unix.SYS_TIME, unix.SYS_TIMES, unix.SYS_ALARM, unix.SYS_SETITIMER, unix.SYS_GETITIMER,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_SETTIME,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_SCHED_SETAFFINITY, unix.SYS_GETCPU, unix.SYS_GETPRIORITY,
	unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_SIGNALFD4,
	unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_INOTIFY_RM_WATCH, unix.SYS_RESTART_SYSCALL,
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_ACCEPT4, unix.SYS_SENDTO, unix.SYS_SENDMSG,
	unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKNAME,
	unix.SYS_GETPEERNAME, unix.SYS_LISTEN, unix.SYS_ACCEPT,
}

// look are those of the harmless ones that look at files. Only a Command with Looks has
// them traced.
var look = map[uint64]call{
	unix.SYS_READ:       byFD("read", Read, 0),
	unix.SYS_PREAD64:    byFD("pread64", Read, 0),
	unix.SYS_FSTAT:      byFD("fstat", Read, 0),
	unix.SYS_STATFS:     {"statfs", Read, -1, 0, -1, -1, -1},
	unix.SYS_FSTATFS:    byFD("fstatfs", Read, 0),
	unix.SYS_NEWFSTATAT: {"newfstatat", Read, 0, 1, -1, -1, -1},
	unix.SYS_STATX:      {"statx", Read, 0, 1, -1, -1, -1},
	unix.SYS_FACCESSAT:  {"faccessat", Read, 0, 1, -1, -1, -1},
	unix.SYS_READLINKAT: {"readlinkat", Read, 0, 1, -1, -1, -1},
	unix.SYS_GETDENTS64: byFD("getdents64", Read, 0),
	unix.SYS_LSEEK:      byFD("lseek", Read, 0),
}

// traced are the system calls that can change something, and those of which only the
// arguments tell: openat, ioctl, mmap.
var traced = map[uint64]call{
	unix.SYS_OPEN:            byPath("open", -1, 0),
	unix.SYS_OPENAT:          byPath("openat", 0, 1),
	unix.SYS_OPENAT2:         byPath("openat2", 0, 1),
	unix.SYS_CREAT:           byPath("creat", -1, 0),
	unix.SYS_MKDIR:           byPath("mkdir", -1, 0),
	unix.SYS_MKDIRAT:         byPath("mkdirat", 0, 1),
	unix.SYS_RMDIR:           byPath("rmdir", -1, 0),
	unix.SYS_UNLINK:          byPath("unlink", -1, 0),
	unix.SYS_UNLINKAT:        byPath("unlinkat", 0, 1),
	unix.SYS_MKNOD:           byPath("mknod", -1, 0),
	unix.SYS_MKNODAT:         byPath("mknodat", 0, 1),
	unix.SYS_TRUNCATE:        byPath("truncate", -1, 0),
	unix.SYS_CHMOD:           byPath("chmod", -1, 0),
	unix.SYS_FCHMODAT:        byPath("fchmodat", 0, 1),
	unix.SYS_CHOWN:           byPath("chown", -1, 0),
	unix.SYS_LCHOWN:          byPath("lchown", -1, 0),
	unix.SYS_FCHOWNAT:        byPath("fchownat", 0, 1),
	unix.SYS_UTIMENSAT:       byPath("utimensat", 0, 1),
	unix.SYS_SETXATTR:        byPath("setxattr", -1, 0),
	unix.SYS_LSETXATTR:       byPath("lsetxattr", -1, 0),
	unix.SYS_REMOVEXATTR:     byPath("removexattr", -1, 0),
	unix.SYS_LREMOVEXATTR:    byPath("lremovexattr", -1, 0),
	unix.SYS_FREMOVEXATTR:    byFD("fremovexattr", Change, 0),
	unix.SYS_FCHMODAT2:       byPath("fchmodat2", 0, 1),
	unix.SYS_UTIME:           byPath("utime", -1, 0),
	unix.SYS_UTIMES:          byPath("utimes", -1, 0),
	unix.SYS_MOUNT:           byPath("mount", -1, 1),
	unix.SYS_UMOUNT2:         byPath("umount2", -1, 0),
	unix.SYS_RENAME:          twice("rename", -1, 0, -1, 1),
	unix.SYS_RENAMEAT:        twice("renameat", 0, 1, 2, 3),
	unix.SYS_RENAMEAT2:       twice("renameat2", 0, 1, 2, 3),
	unix.SYS_LINK:            twice("link", -1, 0, -1, 1),
	unix.SYS_LINKAT:          twice("linkat", 0, 1, 2, 3),
	unix.SYS_SYMLINK:         byPath("symlink", -1, 1),
	unix.SYS_SYMLINKAT:       byPath("symlinkat", 1, 2),
	unix.SYS_WRITE:           byFD("write", Change, 0),
	unix.SYS_PWRITE64:        byFD("pwrite64", Change, 0),
	unix.SYS_WRITEV:          byFD("writev", Change, 0),
	unix.SYS_PWRITEV:         byFD("pwritev", Change, 0),
	unix.SYS_PWRITEV2:        byFD("pwritev2", Change, 0),
	unix.SYS_FTRUNCATE:       byFD("ftruncate", Change, 0),
	unix.SYS_FALLOCATE:       byFD("fallocate", Change, 0),
	unix.SYS_FCHMOD:          byFD("fchmod", Change, 0),
	unix.SYS_FCHOWN:          byFD("fchown", Change, 0),
	unix.SYS_FSETXATTR:       byFD("fsetxattr", Change, 0),
	unix.SYS_IOCTL:           byFD("ioctl", Read, 0),
	unix.SYS_SENDFILE:        byFD("sendfile", Change, 0),
	unix.SYS_SPLICE:          byFD("splice", Change, 2),
	unix.SYS_FLOCK:           byFD("flock", Read, 0),
	unix.SYS_FSYNC:           byFD("fsync", Sync, 0),
	unix.SYS_FDATASYNC:       byFD("fdatasync", Sync, 0),
	unix.SYS_SYNCFS:          byFD("syncfs", Sync, 0),
	unix.SYS_SYNC:            {"sync", Sync, -1, -1, -1, -1, -1},
	unix.SYS_MSYNC:           {"msync", Sync, -1, -1, -1, -1, -1},
	unix.SYS_MMAP:            byFD("mmap", Read, 4),
	unix.SYS_SYNC_FILE_RANGE: byFD("sync_file_range", Sync, 0),
	unix.SYS_COPY_FILE_RANGE: byFD("copy_file_range", Change, 2),
	unix.SYS_BIND:            {"bind", Change, -1, -1, -1, -1, -1}, // what it names is in memory: socketOf
	unix.SYS_UNSHARE:         {"unshare", Read, -1, -1, -1, -1, -1},
	// A mount made so is to be seen by nobody before move_mount.
	unix.SYS_FSOPEN:         {"fsopen", Read, -1, -1, -1, -1, -1},
	unix.SYS_FSCONFIG:       {"fsconfig", Read, -1, -1, -1, -1, -1},
	unix.SYS_FSMOUNT:        {"fsmount", Read, -1, -1, -1, -1, -1},
	unix.SYS_IO_URING_SETUP: {"io_uring_setup", Read, -1, -1, -1, -1, -1},
	unix.SYS_IO_SETUP:       {"io_setup", Read, -1, -1, -1, -1, -1},
}

// request describes an ioctl request that changes something.
type request struct {
	name string
	kind Kind
}

var requests = map[uint64]request{
	unix.FICLONE:             {"FICLONE", Change},
	unix.FICLONERANGE:        {"FICLONERANGE", Change},
	unix.FIDEDUPERANGE:       {"FIDEDUPERANGE", Change},
	unix.FS_IOC_SETFLAGS:     {"FS_IOC_SETFLAGS", Change},
	0x401c5820:               {"FS_IOC_FSSETXATTR", Change},
	unix.LOOP_CONFIGURE:      {"LOOP_CONFIGURE", Change},
	unix.LOOP_SET_FD:         {"LOOP_SET_FD", Change},
	unix.LOOP_CLR_FD:         {"LOOP_CLR_FD", Change},
	unix.LOOP_SET_STATUS64:   {"LOOP_SET_STATUS64", Change},
	unix.LOOP_SET_CAPACITY:   {"LOOP_SET_CAPACITY", Change},
	unix.LOOP_SET_DIRECT_IO:  {"LOOP_SET_DIRECT_IO", Change},
	unix.LOOP_SET_BLOCK_SIZE: {"LOOP_SET_BLOCK_SIZE", Change},
	unix.LOOP_CTL_GET_FREE:   {"LOOP_CTL_GET_FREE", Change},
	unix.LOOP_CTL_ADD:        {"LOOP_CTL_ADD", Change},
	unix.LOOP_CTL_REMOVE:     {"LOOP_CTL_REMOVE", Change},
	unix.BLKROSET:            {"BLKROSET", Change},
	unix.BLKFLSBUF:           {"BLKFLSBUF", Sync},
	0x8080583a:               {"XFS_IOC_FREE_EOFBLOCKS", Change},
	0x4010586e:               {"XFS_IOC_FSGROWFSDATA", Change},
	unix.BLKDISCARD:          {"BLKDISCARD", Change},
	unix.BLKZEROOUT:          {"BLKZEROOUT", Change},
	unix.BLKRRPART:           {"BLKRRPART", Change},
	unix.LOOP_GET_STATUS64:   {"LOOP_GET_STATUS64", Read},
	unix.FS_IOC_GETFLAGS:     {"FS_IOC_GETFLAGS", Read},
	0x801c581f:               {"FS_IOC_FSGETXATTR", Read},
	0xc020660b:               {"FS_IOC_FIEMAP", Read},
	0x8400941f:               {"BTRFS_IOC_FS_INFO", Read},
	0x80705864:               {"XFS_IOC_FSGEOMETRY_V1", Read},
	0xc0709411:               {"BTRFS_IOC_TREE_SEARCH_V2", Read},
	0x80111500:               {"FS_IOC_GETFSUUID", Read},
	unix.TCGETS:              {"TCGETS", Read},
}

// refine tells what a call does from its arguments.
func refine(c call, nr uint64, args [6]uint64) (name string, kind Kind, err error) {
	const creating = unix.O_CREAT | unix.O_TRUNC | unix.O_TMPFILE&^unix.O_DIRECTORY
	name, kind = c.name, c.kind
	opening := func(flags uint64) Kind {
		if flags&creating != 0 {
			return Change
		}
		return Open
	}
	switch nr {
	case unix.SYS_OPEN:
		kind = opening(args[1])
	case unix.SYS_OPENAT:
		kind = opening(args[2])
	case unix.SYS_IOCTL:
		r, known := requests[args[1]&0xffffffff]
		if !known {
			// What nobody has looked at may change something.
			return fmt.Sprintf("ioctl %#x", args[1]), Change, nil
		}
		name, kind = "ioctl "+r.name, r.kind
	case unix.SYS_MMAP:
		if args[2]&unix.PROT_WRITE != 0 && args[3]&unix.MAP_TYPE == unix.MAP_SHARED && args[3]&unix.MAP_ANONYMOUS == 0 {
			err = fmt.Errorf("it maps a file shared and writable: what it changes that way cannot be seen")
		}
	case unix.SYS_IO_URING_SETUP, unix.SYS_IO_SETUP:
		err = fmt.Errorf("it uses asynchronous I/O (%s): what it changes that way cannot be seen", name)
	}
	return name, kind, err
}
