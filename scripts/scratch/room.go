package scratch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/scripts/owned"
)

// A room is where a test binary, or srtest, keeps everything: a directory for temporary files,
// which the process outside, see Isolate, removes however the tests end, with what is left of
// them. If that process is killed as well, the next run does it.
type room struct {
	dir  string
	lock *os.File // a lock, as long as somebody lives in it
}

const (
	roomMark = ".room" // a file in it, with roomText, on which the lock is
	roomText = "Temporary files of a test of reflinksr: removed when nobody has a lock on this file.\n"
	inRoom   = "REFLINKSR_ROOM"  // set for who lives in one: those need none of their own
	sweeping = "REFLINKSR_SWEEP" // the room that a process is to sweep, and the mount namespace of who lived there
)

var roomName = regexp.MustCompile(`^rsr-[0-9]+$`)

// newRoom makes a room, and sweeps those whose people are dead.
func newRoom() (r *room, err error) {
	top, err := os.Open(os.TempDir())
	if err != nil {
		return nil, err
	}
	defer top.Close()
	// Who sweeps is alone: no room is one without a lock on it just because it is new.
	if flock(top, unix.LOCK_EX|unix.LOCK_NB) == nil {
		sweepDead(os.TempDir())
	}
	if err := flock(top, unix.LOCK_SH); err != nil {
		return nil, err
	}
	r = new(room)
	if r.dir, err = os.MkdirTemp("", "rsr-"); err != nil {
		return nil, err
	}
	err = os.WriteFile(filepath.Join(r.dir, roomMark), []byte(roomText), 0o600)
	if err == nil {
		r.lock, err = os.Open(filepath.Join(r.dir, roomMark))
	}
	if err == nil {
		err = flock(r.lock, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		os.RemoveAll(r.dir)
		return nil, err
	}
	return r, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// sweepDead removes rooms that nobody lives in any more.
func sweepDead(top string) {
	entries, err := os.ReadDir(top)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !roomName.MatchString(e.Name()) {
			continue
		}
		dir := filepath.Join(top, e.Name())
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
			continue // it is somebody's who uses the name
		}
		lock, err := os.OpenFile(filepath.Join(dir, roomMark), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		r := &room{dir, lock}
		mark, err := io.ReadAll(io.LimitReader(lock, 1<<10))
		if err == nil && string(mark) == roomText && flock(lock, unix.LOCK_EX|unix.LOCK_NB) == nil {
			r.leave(nil)
			continue
		}
		r.lock.Close()
	}
}

// leave ends what was started in the room and removes it, with the devices whose files are
// in it or on filesystems in it. namespace is that of the mounts, if it is known.
func (r *room) leave(namespace *os.File) error {
	defer r.lock.Close()
	for range 50 {
		left := owned.Processes(r.isFrom)
		if len(left) == 0 {
			break
		}
		for _, pid := range left {
			owned.Signal(pid, unix.SIGKILL, r.isFrom)
		}
		time.Sleep(10 * time.Millisecond)
	}
	var err error
	if os.Getuid() == 0 {
		err = r.sweepApart(namespace)
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// isFrom says whether a process has the room in its environment, as its TMPDIR or below.
func (r *room) isFrom(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && (bytes.Contains(env, []byte("="+r.dir+"\x00")) || bytes.Contains(env, []byte("="+r.dir+"/")))
}

// sweepApart has another process sweep: it needs mounts of its own.
func (r *room) sweepApart(namespace *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self)
	c.Args = os.Args // as it was called it comes to Isolate
	c.Env = append(os.Environ(), sweeping+"="+r.dir)
	c.Stderr = os.Stderr
	if namespace != nil {
		c.ExtraFiles = []*os.File{namespace}
	}
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	return c.Run()
}

// sweep detaches the devices of a room and unmounts what is mounted in it.
func sweep(dir string) error {
	disks := map[uint64]bool{} // the filesystems that were made in it
	if err := makePrivate(); err != nil {
		return err
	}
	below := owned.Below(dir)
	images, err := owned.Loops(below)
	if err != nil {
		return err
	}
	// A filesystem that is still there because of a device is mounted as the same again.
	at := filepath.Join(dir, ".sweep")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	for _, image := range images {
		for kind, options := range map[string]string{"btrfs": "", "xfs": "nouuid", "ext4": ""} {
			if unix.Mount(image.Path(), at, kind, 0, options) == nil {
				note(disks, at)
				unix.Unmount(at, unix.MNT_DETACH)
				break
			}
		}
	}
	// What was mounted where the room's people lived, and is known by its place.
	runtime.LockOSThread()
	if lived := os.NewFile(3, "namespace"); unix.Unshare(unix.CLONE_FS) == nil && unix.Setns(int(lived.Fd()), unix.CLONE_NEWNS) == nil {
		mounts, _ := os.ReadFile("/proc/thread-self/mountinfo")
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 4 && (below(fields[4]) || strings.HasPrefix(fields[4], "/run/sr-mount/")) {
				note(disks, strings.ReplaceAll(fields[4], `\040`, " "))
			}
		}
	}
	var own unix.Stat_t
	if err := unix.Stat(dir, &own); err == nil {
		delete(disks, own.Dev) // a directory that is mounted on itself
	}
	there := func(file string) bool { _, err := os.Lstat(file); return err == nil && !below(file) }
	devices, err := owned.Loops(func(file string) bool { return below(file) || len(disks) > 0 && !there(file) })
	devices = slices.DeleteFunc(devices, func(l owned.Loop) bool { return !below(l.File) && !disks[l.Dev] })
	err = errors.Join(err, owned.Detach(devices))
	UnmountBelow(dir)
	images, e := owned.Loops(below)
	return errors.Join(err, e, owned.Detach(images))
}

func note(disks map[uint64]bool, dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) == nil {
		disks[st.Dev] = true
	}
}

// privateRun gives this process, in a mount namespace of its own, a /run with all that is
// in it, but for what plugins under test keep there: that is its own, and ends with it.
func privateRun(dir string) error {
	was := filepath.Join(dir, ".run")
	if err := os.Mkdir(was, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/run", was, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keeping /run: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting a /run: %w", err)
	}
	entries, err := os.ReadDir(was)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(was, e.Name()), filepath.Join("/run", e.Name())
		if slices.Contains([]string{"reflinksr", "sr-mount", "simple-sr"}, e.Name()) {
			continue
		}
		if link, err := os.Readlink(from); err == nil {
			if err := os.Symlink(link, to); err != nil {
				return err
			}
			continue
		}
		if e.IsDir() {
			err = os.Mkdir(to, 0o755)
		} else {
			err = os.WriteFile(to, nil, 0o600)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if errors.Is(err, os.ErrNotExist) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return fmt.Errorf("keeping %s: %w", to, err)
		}
	}
	return errors.Join(unix.Unmount(was, unix.MNT_DETACH), os.Remove(was))
}
