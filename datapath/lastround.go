package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reflinksr/internal/rundir"
	"reflinksr/internal/sys"
)

// sendLast has the mirror of the volume, to which nobody writes any more, send what was written last, if the toolstack was told that it is complete: then
// it counts on that. A mirror that has failed then fails this call, once: the toolstack goes on with the disk that is here.
func (v *session) sendLast() error {
	dir, err := rundir.Look(serversDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if there, err := dir.Exists(v.name + mirrorSuffix); err != nil || !there {
		return err
	}
	m, err := readMirror(dir, v.name)
	if err != nil || m.ID == "" || !m.Complete || m.Ended {
		return err
	}
	if m.Failed == "" {
		if err := askForLast(dir.Join(v.name + lastSuffix)); err == nil {
			return nil
		} else if m, _ = readMirror(dir, v.name); m.Failed == "" {
			m.Failed = err.Error()
		}
	}
	failed := fmt.Errorf("volume %s: what was written last is not at the other side of its migration: %s", v.key, m.Failed)
	m.Complete = false // it is told now
	return errors.Join(failed, endMirror(dir, v.name), m.write(dir))
}

// sent is what the process says when everything is at the other side.
const sent = "sent\n"

// askForLast returns when everything is sent. The process is waited for as long as it lives: it waits for nothing without an end itself.
func askForLast(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := sys.Do(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		return fmt.Errorf("its process cannot be reached: %w", err)
	}
	said, err := readAll(fd, time.Now().Add(24*time.Hour))
	switch {
	case err != nil && !errors.Is(err, syscall.ECONNRESET):
		return err
	case string(said) == sent:
		return nil
	case len(said) == 0:
		return errors.New("its process has ended")
	}
	return errors.New(strings.TrimSpace(string(said)))
}

// endMirror ends the volume's mirror, if there is one, when nobody has the volume attached any more: that of a halted guest is never active.
func (v *session) endMirror() {
	if len(v.state.Domains) > 0 {
		return
	}
	err := v.sendLast()
	dir, e := rundir.Look(serversDir)
	if e == nil {
		defer dir.Close()
		there := false
		if there, e = dir.Exists(v.name + mirrorSuffix); there {
			e = endMirror(dir, v.name)
		}
	}
	if errors.Is(e, os.ErrNotExist) {
		e = nil
	}
	if err = errors.Join(err, e); err != nil {
		slog.Error("the mirror of a volume that nobody has attached any more", "key", v.key, "err", err)
	}
}
