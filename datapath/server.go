package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/dirfs"
	"reflinksr/internal/fault"
	"reflinksr/internal/procs"
	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
	"reflinksr/sr"
)

// A volume that a migration has active is served by NBD: by a process of its own, for the call that starts it ends at once. What is
// known of it is in a directory of rundir, in files that begin with the name of the volume's note:
//
//	.lock      the server holds it as long as it lives, and its process number is in it
//	.clients   held (shared) for each client that is connected, and by whoever keeps clients away (exclusive)
//	.in        the socket that takes the connections of mirrors, see ImportActivate
//	           the socket of all others has the name itself
//
// So a server that was killed has left what nobody holds, and the next call removes it.
const (
	serversDir    = "nbd"
	lockSuffix    = ".lock"
	clientsSuffix = ".clients"
	receiveSuffix = ".in"
)

// ServerProgram is the name of the program that serves. It is beside the plugin, and not in it: what it links would cost every call.
const ServerProgram = "srnbd"

// How long a server may take: until it listens, and until it has ended, for it writes what it has; then it is killed.
const (
	serverBegins = 30 * time.Second
	serverEnds   = 20 * time.Second
)

// What a server does, as it is told.
const (
	ServeDevice = "serve"   // it serves the device to who connects
	ServeMirror = "receive" // it is handed connections, and keeps what comes sector by sector
	MirrorAway  = "mirror"  // it sends the volume to elsewhere, see Mirror
)

// serverProgram is where the program is: "" if it is not installed.
func serverProgram() string {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), ServerProgram)
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// CanServe says whether disks can be served by NBD on this host.
func CanServe() bool { return serverProgram() != "" }

// socketOf is where the server of a volume listens. xapi splits the address at colons, and the kernel takes 107 bytes.
func socketOf(name string) string { return filepath.Join(rundir.Path, serversDir, name) }

// address is by what a domain reaches the volume's server: "" if it gets none.
func (v *session) address(domain string) string {
	if !IsMigration(domain) || !CanServe() {
		return ""
	}
	return "nbd:unix:" + socketOf(v.name) + ":exportname=" + string(v.key)
}

// serve starts the volume's server for a domain that has it active, unless it is there, and returns when it listens.
// A volume that is received sector by sector has another server, see ImportActivate.
func (v *session) serve(s *sr.SR, domain string) error {
	program := serverProgram()
	if program == "" || !IsMigration(domain) {
		return nil
	}
	if received, err := s.IsReceived(v.key); err != nil || received {
		return err
	}
	dir, err := rundir.Open(serversDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	lock, busy, err := lockServer(dir, v.name)
	if err != nil || busy {
		return err
	}
	v.removeServer(dir)
	lock.Close()
	if err := startServer(program, ServeDevice, v.uri, domain); err != nil {
		return fmt.Errorf("volume %s: serving it by NBD: %w", v.key, err)
	}
	return nil
}

// lockServer takes the lock of a server that is not there: busy if it is. Whoever has the volume locked on this host is the only one
// who starts it.
func lockServer(dir *dirfs.Dir, name string) (lock *os.File, busy bool, err error) {
	lock, err = dir.OpenLock(name + lockSuffix)
	if err != nil {
		return nil, false, err
	}
	if err = dirfs.Flock(lock, dirfs.Exclusive, time.Time{}, true); err == nil || err == unix.EWOULDBLOCK {
		return lock, err != nil, nil
	}
	return nil, false, errors.Join(dirfs.LockError(lock, "a server's lock", err), lock.Close())
}

// startServer starts the program and waits for the word that it listens.
func startServer(program string, args ...string) error {
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(null)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	// It has nothing of this process, whose end the toolstack waits for: no stream, no session, no directory.
	// #nosec G204 -- a program of ours
	_, err = syscall.ForkExec(program, append([]string{ServerProgram}, args...), &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pipe[1])}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	unix.Close(pipe[1])
	if err != nil {
		return fmt.Errorf("starting %s: %w", program, err)
	}
	said, err := readAll(pipe[0], time.Now().Add(serverBegins))
	switch {
	case err != nil:
		return fmt.Errorf("%s does not begin: %w", program, err)
	case string(said) == ServerListens:
		return nil
	case len(said) == 0:
		return fmt.Errorf("%s ended at once", program)
	}
	return fmt.Errorf("%s: %s", ServerProgram, said)
}

// ServerListens is what a server says when it listens; if it cannot, it says why.
const ServerListens = "listening\n"

// readAll reads what is written to a pipe until it is closed.
func readAll(fd int, deadline time.Time) ([]byte, error) {
	var all bytes.Buffer
	for buffer := make([]byte, 1024); all.Len() < 64<<10; {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1) // #nosec G115 -- a descriptor
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		n, err = sys.Retry(func() (int, error) { return unix.Read(fd, buffer) })
		if err != nil || n == 0 {
			return all.Bytes(), err
		}
		all.Write(buffer[:n])
	}
	return all.Bytes(), nil
}

// serverEnd is how a server is ended: with those who are connected, or only if nobody is.
type serverEnd bool

const (
	atOnce serverEnd = false
	ifIdle serverEnd = true
)

// endServer ends the volume's server, if there is one, and returns when it is gone; what it had taken it has written. With ifIdle it is
// fault.ErrInUse while somebody is connected.
func (v *session) endServer(how serverEnd) error {
	dir, err := rundir.Look(serversDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was ever served
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	there, err := dir.Exists(v.name + lockSuffix)
	if err != nil || !there {
		return err
	}
	lock, busy, err := lockServer(dir, v.name)
	if err != nil {
		return err
	}
	defer lock.Close()
	if busy && how == ifIdle {
		clients, err := dir.OpenLock(v.name + clientsSuffix)
		if err != nil {
			return err
		}
		defer clients.Close()
		err = dirfs.Flock(clients, dirfs.Exclusive, time.Time{}, true) // from now on nobody gets in
		if err == unix.EWOULDBLOCK {
			return fault.Errorf(fault.ErrInUse, string(v.key), "volume %s is in use: a client is connected to its NBD server", v.key)
		}
		if err != nil {
			return dirfs.LockError(clients, "the clients of a server", err)
		}
	}
	if busy {
		if err := awaitEnd(lock); err != nil {
			return fmt.Errorf("volume %s: ending its NBD server: %w", v.key, err)
		}
	}
	v.removeServer(dir)
	return dir.Remove(v.name + lockSuffix)
}

// awaitEnd ends the process that holds a server's lock, and takes it.
func awaitEnd(lock *os.File) (err error) {
	for _, attempt := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGTERM, serverEnds}, {syscall.SIGKILL, serverEnds / 2}} {
		if pid, e := serverIn(lock); e == nil {
			if attempt.signal == syscall.SIGKILL {
				slog.Error("a server does not end, and is killed", "server", procs.Describe(pid))
			}
			syscall.Kill(pid, attempt.signal) //nolint:errcheck // it may have ended
		}
		if err = dirfs.Flock(lock, dirfs.Exclusive, time.Now().Add(attempt.patience), false); err == nil {
			return nil
		}
	}
	return dirfs.LockError(lock, "its lock", err)
}

// serverIn reads which process holds a server's lock. Its number may be another's by now: it counts if the process has the file open.
func serverIn(f *os.File) (pid int, err error) {
	text := make([]byte, 20)
	n, err := f.ReadAt(text, 0)
	if n == 0 {
		return 0, err
	}
	line, _, _ := bytes.Cut(text[:n], []byte("\n"))
	if pid, err = strconv.Atoi(string(line)); err != nil {
		return 0, err
	}
	st, err := sys.Fstat(f)
	if err != nil {
		return 0, err
	}
	if pid <= 1 || pid == os.Getpid() || !procs.HasOpen(pid, st) {
		return 0, unix.ESRCH
	}
	return pid, nil
}

// removeServer removes what a server has left that was killed. The caller holds its lock.
func (v *session) removeServer(dir *dirfs.Dir) {
	for _, name := range []string{v.name, v.name + receiveSuffix, v.name + clientsSuffix} {
		if err := dir.Remove(name); err != nil {
			slog.Warn("what a server has left stays for now", "file", dir.Join(name), "err", err)
		}
	}
}
